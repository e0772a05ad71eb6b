"""The proof of equality: it holds for a right pair, and fails for a wrong one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from facellm.core.canary import waves
from facellm.core.package import ModelPackage
from facellm.engine.canary import check_canary
from facellm.engine.errors import RuntimeChanged
from facellm.models.gguf_header import read_header
from facellm_converters.convert import Converted, Order, convert
from facellm_converters.equality.compare import compare_with
from facellm_converters.equality.runtime import Pair
from facellm_converters.equality.tower import image_tokens

SIDE = 112


def pair(folder: Path, out: Path, quant: str = "F16") -> Converted:
    order = Order(folder, out, quant, "F16")
    return convert(order, lambda *_: None, lambda found: image_tokens(found, waves(SIDE)))


def package(done: Converted) -> ModelPackage:
    return ModelPackage("tiny", done.language, done.mmproj, SIDE)


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "chat"])
def test_a_right_pair_is_equal(made, tmp_path, name) -> None:
    report = compare_with(made / name, None, package(pair(made / name, tmp_path)))
    assert report.equal
    assert report.cosine_least > 0.9999
    assert report.divergence_mean < 1e-4
    assert report.agreement > 0.97
    assert report.positions > 100
    assert "NOT" not in report.table()


def test_what_a_quantisation_costs_is_measured(made, tmp_path) -> None:
    costs = [
        compare_with(made / "qwen2", None, package(pair(made / "qwen2", tmp_path / quant, quant))).divergence_mean
        for quant in ("F16", "Q8_0", "Q4_K_M")
    ]
    assert costs[0] < costs[1] < costs[2]


def test_a_pair_of_other_weights_is_not_equal(made, copied, tmp_path) -> None:
    done = pair(made / "qwen2", tmp_path / "out")
    other = copied("qwen2")
    weights = load_file(other / "model.safetensors")
    name = "language_model.model.layers.1.mlp.down_proj.weight"
    weights[name] = -weights[name]
    save_file(weights, other / "model.safetensors")
    report = compare_with(other, None, package(done))
    assert not report.equal
    assert report.cosine_least > 0.9999
    assert "NOT EQUAL" in report.table()


def test_llava_is_equal_but_for_its_image_tokens(made, tmp_path) -> None:
    report = compare_with(made / "llava", None, package(pair(made / "llava", tmp_path)))
    assert not report.equal
    assert report.cosine_mean < 0.9


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "llava"])
def test_the_canary_is_what_the_runtime_gives_and_a_changed_one_is_refused(made, tmp_path, name) -> None:
    done = pair(made / name, tmp_path)
    header = read_header(done.mmproj)
    with Pair(done.language, done.mmproj, 2) as runtime:
        check_canary(header, SIDE, runtime.image_tokens, lambda _share: None)
        with pytest.raises(RuntimeChanged):
            check_canary(header, SIDE, lambda picture: np.roll(runtime.image_tokens(picture), 1, 0), lambda _: None)


def test_two_pairs_one_after_the_other(made, tmp_path) -> None:
    done = pair(made / "qwen3", tmp_path)
    found = []
    for _ in range(2):
        with Pair(done.language, done.mmproj, 2) as runtime:
            ids = runtime.tokens("<|im_start|>user\nIs this person smiling?<|im_end|>\n")
            found.append(runtime.logits([ids], 3))
    assert np.array_equal(*found)
