"""The proof of equality: it holds for a right pair, and fails for a wrong one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from facellm.core.canary import waves
from facellm.core.package import ModelPackage
from facellm.engine.canary import check_canary
from facellm.engine.errors import RuntimeChanged
from facellm.models.gguf_header import read_header
from facellm.models.packages import ModelMissing, find_package
from facellm.models.store import AssetStore
from facellm_converters.convert import Converted, Order, convert
from facellm_converters.equality.compare import compare, compare_with
from facellm_converters.equality.decoder import POSITIONS, next_token_logits
from facellm_converters.equality.measures import closed_cost, cosines, divergence
from facellm_converters.equality.runtime import Pair
from facellm_converters.equality.texts import TEXTS, Text, pictures, rendered
from facellm_converters.equality.tower import image_tokens
from facellm_converters.equality.verdict import DIVERGENCES, faults, stored_kind
from facellm_converters.errors import ConversionError
from facellm_converters.layouts.checkpoint import open_checkpoint

SIDE = 112


def pair(folder: Path, out: Path, quant: str = "F16", mmproj: str = "F16", split: int = 0) -> Converted:
    order = Order(folder, out, quant, mmproj, split=split)
    return convert(order, lambda *_: None)


def package(done: Converted) -> ModelPackage:
    return ModelPackage("tiny", done.language, done.mmproj, SIDE)


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "chat", "nano"])
def test_a_right_pair_is_equal(made, tmp_path, name) -> None:
    report = compare_with(made / name, None, package(pair(made / name, tmp_path)))
    assert report.equal and not report.faults
    assert (report.language, report.mmproj) == ("F16", "F16")
    assert report.cosine_least > 0.9999
    assert 0 < report.divergence_mean < 1e-5
    assert report.agreement > 0.97
    assert report.positions > 300
    assert (report.questions, report.letters) == (6, 1.0)
    assert "NOT" not in report.table()
    assert len(json.loads(json.dumps(report.as_json()))["by_picture"]) == report.pictures == 3


def test_what_a_quantisation_costs_is_measured(made, tmp_path) -> None:
    reports = [
        compare_with(made / "qwen2", None, package(pair(made / "qwen2", tmp_path / quant, quant, mmproj)))
        for quant, mmproj in (("F16", "F16"), ("Q8_0", "Q8_0"), ("Q4_K_M", "Q8_0"))
    ]
    costs = [report.divergence_text for report in reports]
    assert costs[0] < costs[1] < costs[2]
    assert reports[0].cosine_mean > reports[1].cosine_mean
    assert [report.language for report in reports] == ["F16", "Q8_0", "Q4_K_M"]
    assert all(report.equal for report in reports)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("language_model.model.layers.1.mlp.down_proj.weight", "texts"),
        ("language_model.model.layers.0.self_attn.k_proj.bias", "texts"),
        ("vision_tower.encoder.layer.1.lambda_1", "image tokens"),
        ("multi_modal_projector.layer_norm.bias", "image tokens"),
    ],
)
def test_a_pair_of_which_one_weight_is_another_is_not_equal(made, copied, tmp_path, name, word) -> None:
    done = pair(made / "qwen2", tmp_path / "out")
    other = copied("qwen2")
    weights = load_file(other / "model.safetensors")
    weights[name] = -weights[name]
    save_file(weights, other / "model.safetensors")
    report = compare_with(other, None, package(done))
    assert not report.equal
    assert report.faults[0].startswith(word)
    assert (report.cosine_least > 0.9999) == (word == "texts")
    assert "NOT EQUAL: " in report.table()


def test_llava_is_equal_but_for_its_image_tokens(made, tmp_path) -> None:
    report = compare_with(made / "llava", None, package(pair(made / "llava", tmp_path)))
    assert not report.equal
    assert report.cosine_mean < 0.9
    assert report.divergence_text < 1e-5
    assert "25814" in report.faults[-1]
    assert "1.0000" in report.faults[-1]


def test_a_pair_of_other_dimensions_is_refused(made, tmp_path) -> None:
    done = pair(made / "llava", tmp_path)
    with pytest.raises(ConversionError, match="64×64 numbers of a picture, the checkpoint 16×64"):
        compare_with(made / "qwen2", None, package(done))


def test_other_texts_and_pictures_may_be_given(made, tmp_path) -> None:
    done = pair(made / "qwen3", tmp_path)
    dark = np.zeros((SIDE, SIDE, 3), np.uint8)
    with open_checkpoint(made / "qwen3") as checkpoint:
        report = compare(checkpoint, package(done), [Text("Is this a face?", 0)], [dark])
        alone = compare(checkpoint, package(done), [Text("Is this a face?")], [dark])
    assert report.positions == alone.positions > 2
    assert report.divergence_picture > 0 == report.divergence_text == alone.divergence_picture
    assert report.questions == 0


def test_the_first_of_several_files_says_how_all_are_stored(made, tmp_path) -> None:
    done = pair(made / "qwen2", tmp_path, split=200_000)
    assert "-00001-of-" in done.language.name
    assert stored_kind(done.language) == "F16"


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "llava", "nano"])
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


def test_what_does_not_load_is_an_error_that_leaves_nothing(made, tmp_path) -> None:
    done = pair(made / "qwen3", tmp_path)
    for files in ((done.mmproj, done.mmproj), (done.language, done.language), (tmp_path / "none.gguf", done.mmproj)):
        with pytest.raises(ConversionError, match="cannot load"):
            Pair(*files, 2)


def test_logits_of_the_runtime_in_pieces_and_after_a_picture_are_the_checkpoints(made, tmp_path) -> None:
    done = pair(made / "qwen2", tmp_path, "F32", "F32")
    with Pair(done.language, done.mmproj, 2) as runtime, open_checkpoint(made / "qwen2") as checkpoint:
        seen = runtime.see(waves(SIDE))
        ids = np.random.default_rng(2).integers(5, 600, 2 * POSITIONS + 5).tolist()
        runtime.begin([seen.before, seen.embeddings, seen.after])
        pieces = list(runtime.after(ids, POSITIONS + 1))
        again = np.concatenate(list(runtime.after(ids, POSITIONS + 1)))
        items = [*seen.before, image_tokens(checkpoint, waves(SIDE)), *seen.after, *ids]
        right = next_token_logits(checkpoint, items, POSITIONS + 1)
        with pytest.raises(ConversionError, match="more than"):
            runtime.begin([[1] * 5000])
    assert [len(piece) for piece in pieces] == [POSITIONS, 1]
    assert np.array_equal(np.concatenate(pieces), again)
    assert np.abs(again[:, : right.shape[1]] - right).max() < 0.02 * right.std()


def test_the_nanos_pair_in_the_runtime() -> None:
    try:
        nano = find_package("nano", AssetStore())
    except ModelMissing:
        pytest.skip("the embedded model is not built here")
    header = read_header(nano.mmproj)
    with Pair(nano.llm, nano.mmproj, 2) as runtime:
        found = runtime.image_tokens(waves(nano.tile))
        ids = rendered(Text("Is this person smiling?", None, ("no", "yes")), runtime.tokens)
        one, other = (runtime.logits([found, ids], 2) for _ in range(2))
    stored = np.array(header["facellm.canary.embedding"], np.float32).reshape(-1, found.shape[1])
    assert cosines(found[: len(stored)], stored).mean() > 0.999
    assert np.array_equal(one, other)
    assert np.isfinite(one).all()


def test_closed_questions_are_judged_by_their_options_alone() -> None:
    right = np.log(np.array([[0.1, 0.6, 0.3, 9.0], [0.5, 0.2, 0.3, 9.0]], np.float32))
    found = np.log(np.array([[0.1, 0.3, 0.6, 1e6], [0.5, 0.2, 0.3, 1e6]], np.float32))
    cost = closed_cost(right, found, [(0, 1, 2), (0, 1, 2)])
    assert (cost.questions, cost.agreement) == (2, 0.5)
    assert cost.shift == pytest.approx((0.3 + 0.3) / 3 / 2, abs=1e-6)


def test_divergence_is_that_of_two_known_distributions() -> None:
    right, found = np.log(np.float32([0.5, 0.5])), np.log(np.float32([0.25, 0.75]))
    assert divergence(right, found + 7) == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3), abs=1e-6)
    assert divergence(right, right) == 0
    assert divergence(right, np.float32([np.nan, 1])) == float("inf")


def test_the_verdict_is_stricter_the_less_was_rounded() -> None:
    limits = list(DIVERGENCES.values())
    assert limits == sorted(limits)
    assert not faults("F16", "F16", 0.9999, 1e-4, 1e-4)
    assert faults("F16", "F16", 0.9999, 2e-3, 1e-4)[0].startswith("texts: ")
    assert not faults("Q8_0", "F16", 0.9999, 2e-3, 2e-3)
    assert faults("Q8_0", "F16", 0.9999, 2e-3, 3e-2)[0].startswith("texts after a picture")
    assert not faults("Q8_0", "Q8_0", 0.995, 2e-3, 3e-2)
    assert faults("Q8_0", "F16", 0.995, 2e-3, 2e-3)[0].startswith("image tokens")
    assert len(faults("F16", "F16", float("nan"), float("nan"), float("inf"))) == 3


def test_the_same_is_asked_each_time() -> None:
    shown = pictures(SIDE)
    assert [picture.shape for picture in shown] == [(SIDE, SIDE, 3)] * 3
    assert all(np.array_equal(*both) for both in zip(shown, pictures(SIDE), strict=True))
    assert not any(np.array_equal(shown[0], other) for other in shown[1:])
    closed = [text for text in TEXTS if text.options]
    assert {text.picture for text in closed} == {0, 1}
    assert all(replace(text, options=()).letters == "" for text in closed)
