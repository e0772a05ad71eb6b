"""Adapters that cannot be merged rightly, or are none: each is named for what it is, and nothing is left behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from facellm_converters.convert import Order, convert
from facellm_converters.errors import BadCheckpoint, Unsupported
from facellm_converters.lora.adapter import CONFIG, WEIGHTS, read_adapter

pytest.importorskip("torch", reason="the checkpoints are made with PyTorch")
pytest.importorskip("peft")

from tests.converters import checkpoints
from tests.converters.adapters import altered, plainly, tuned


def configured(folder: Path, **values: object) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | values))


def test_an_adapter_for_another_base_is_named_with_both_shapes(adapter, tmp_path) -> None:
    base, folder = adapter
    altered(folder, lambda w: {k: np.pad(v, ((0, 0), (0, 16))) if ".lora_A." in k else v for k, v in w.items()})
    with pytest.raises(BadCheckpoint, match="64×144 and 64×128"):
        convert(Order(base, tmp_path / "out", adapter=folder), lambda *_: None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("some", [True, False])
def test_no_tensor_of_it_may_be_left_unused(adapter, tmp_path, some) -> None:
    base, folder = adapter

    def rename(name: str) -> str:
        return name.replace("layers.1." if some else "layers.", "layers.9." if some else "blocks.")

    altered(folder, lambda weights: {rename(name): values for name, values in weights.items()})
    with pytest.raises(BadCheckpoint, match=r"^7 of" if some else "^None of"):
        convert(Order(base, tmp_path / "out", adapter=folder), lambda *_: None)
    assert not (tmp_path / "out").exists()


def test_a_matrix_without_its_other(adapter) -> None:
    _, folder = adapter
    altered(folder, lambda weights: dict(sorted(weights.items())[1:]))
    with pytest.raises(BadCheckpoint, match="not the other"):
        read_adapter(folder)


def test_numbers_that_are_none(adapter) -> None:
    _, folder = adapter

    def spoil(weights):
        next(iter(weights.values()))[0, 0] = np.nan
        return weights

    altered(folder, spoil)
    with pytest.raises(BadCheckpoint, match="not numbers"):
        read_adapter(folder)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "biases"),
        ({"fan_in_fan_out": True}, "transposed"),
        ({"lora_bias": True}, "lora_bias"),
        ({"alora_invocation_tokens": [30, 31]}, "aLoRA"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
        ({"target_parameters": ["mlp.weight"]}, "target_parameters"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"init_lora_weights": "OLoRA"}, "olora"),
        ({"init_lora_weights": "loftq"}, "loftq"),
    ],
)
def test_other_kinds_are_refused_by_name(adapter, values, said) -> None:
    _, folder = adapter
    configured(folder, **values)
    with pytest.raises(Unsupported, match=said):
        read_adapter(folder)


def test_dora_is_refused_also_where_only_its_tensors_say_so(adapter) -> None:
    _, folder = adapter
    name = "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_magnitude_vector"
    altered(folder, lambda weights: weights | {name: np.ones(64, np.float32)})
    with pytest.raises(Unsupported, match="lora_magnitude_vector"):
        read_adapter(folder)


def test_biases_of_its_matrices_are_not_taken_for_matrices(tmp_path) -> None:
    model = checkpoints.internvl(tmp_path / "base")
    tuned(model, tmp_path / "adapter", target_modules=["q_proj"], lora_bias=True)
    configured(tmp_path / "adapter", lora_bias=False)
    with pytest.raises(Unsupported, match=r"lora_B\.bias"):
        read_adapter(tmp_path / "adapter")


def test_two_adapters_in_one_file(adapter) -> None:
    _, folder = adapter
    altered(folder, lambda weights: weights | {k.replace(".weight", ".other.weight"): v for k, v in weights.items()})
    with pytest.raises(BadCheckpoint, match="twice"):
        read_adapter(folder)


def test_a_rank_that_the_configuration_does_not_say(adapter) -> None:
    _, folder = adapter
    configured(folder, r=8)
    with pytest.raises(BadCheckpoint, match="rank 4"):
        read_adapter(folder)


def test_pickled_adapters_are_refused(adapter) -> None:
    _, folder = adapter
    shutil.move(folder / WEIGHTS, folder / "adapter_model.bin")
    with pytest.raises(BadCheckpoint, match="pickle"):
        read_adapter(folder)


def test_a_tied_head_cannot_be_changed_alone(adapter, tmp_path) -> None:
    base, folder = adapter
    extra = {"base_model.model.lm_head.lora_A.weight": np.ones((4, 64), np.float32)}
    extra["base_model.model.lm_head.lora_B.weight"] = np.ones((1010, 4), np.float32)
    altered(folder, lambda weights: weights | extra)
    with pytest.raises(BadCheckpoint, match=r"embedding table|lm_head"):
        convert(Order(base, tmp_path / "out", adapter=folder), lambda *_: None)


def test_a_tied_head_cannot_be_changed_alone_though_a_copy_of_it_is_stored(adapter, tmp_path) -> None:
    base, folder = adapter
    weights = load_file(base / "model.safetensors")
    table = plainly(base)["language_model.embed_tokens.weight"]
    save_file(weights | {"lm_head.weight": table.copy()}, base / "model.safetensors", metadata={"format": "pt"})
    extra = {"base_model.model.lm_head.lora_A.weight": np.ones((4, 64), np.float32)}
    extra["base_model.model.lm_head.lora_B.weight"] = np.ones((len(table), 4), np.float32)
    altered(folder, lambda weights: weights | extra)
    with pytest.raises(BadCheckpoint, match="embedding table"):
        convert(Order(base, tmp_path / "out", adapter=folder), lambda *_: None)
    assert not (tmp_path / "out").exists()
