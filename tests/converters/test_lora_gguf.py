"""Adapters kept apart: the same change as merged, by llama.cpp's names, and none of which it would add a part only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from facellm_converters.convert import Converted, Order, convert
from facellm_converters.errors import BadCheckpoint, ConversionError, Unsupported

pytest.importorskip("torch", reason="the checkpoints are made with PyTorch")
pytest.importorskip("peft")

from tests.converters import checkpoints
from tests.converters.adapters import KINDS, MAKERS, altered, tuned


def kept(folder: Path, out: str = "out") -> Converted:
    """``folder / "base"`` with ``folder / "adapter"`` kept apart."""
    order = Order(folder / "base", folder / out, "F32", "F32", folder / "adapter", keep_adapter=True)
    return convert(order, lambda *_: None)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("kind", ["patterns", "rslora", "whole names"])
def test_kept_apart_it_holds_the_same_change(tmp_path, name, kind) -> None:
    model = MAKERS[name](tmp_path / "base")
    tuned(model, tmp_path / "adapter", **KINDS[kind])
    order = Order(tmp_path / "base", tmp_path / "out", "F32", "F32", tmp_path / "adapter", keep_adapter=True)
    done = convert(order, lambda *_: None)
    merged = convert(Order(tmp_path / "base", tmp_path / "all", "F32", "F32", tmp_path / "adapter"), lambda *_: None)
    assert done.adapter is not None
    parts = {t.name: t.data for t in GGUFReader(done.adapter).tensors}
    base, right = ({t.name: t.data for t in GGUFReader(file.language).tensors} for file in (done, merged))
    names = {name.removesuffix(".lora_a") for name in parts if name.endswith(".lora_a")}
    assert len(names) == 14
    for each in names:
        a, b = parts[f"{each}.lora_a"], parts[f"{each}.lora_b"]
        assert np.allclose(base[each] + b @ a / len(a), right[each], atol=2e-6), each


def test_kept_apart_llama_cpp_adds_it(tmp_path) -> None:
    import llama_cpp

    base, folder = tmp_path / "base", tmp_path / "adapter"
    tuned(checkpoints.internvl(base), folder, **KINDS["language"])
    order = Order(base, tmp_path / "out", "F32", "F32", folder, keep_adapter=True)
    apart = convert(order, lambda *_: None)
    merged = convert(Order(base, tmp_path / "all", "F32", "F32", folder), lambda *_: None)
    ids = list(range(10, 40))

    def logits(language: Path, **options: str) -> np.ndarray:
        model = llama_cpp.Llama(str(language), n_ctx=64, logits_all=True, verbose=False, **options)
        model.eval(ids)
        found = np.array(model.scores[: len(ids)])
        model.close()
        return found

    right, found = logits(merged.language), logits(apart.language, lora_path=str(apart.adapter))
    assert np.abs(found - right).max() < 0.02 * right.std()
    assert np.abs(logits(apart.language) - right).max() > 0.2 * right.std()


def test_it_says_what_it_is_and_a_second_run_gives_the_same_bytes(tmp_path) -> None:
    tuned(checkpoints.llava(tmp_path / "base"), tmp_path / "adapter", **KINDS["language"])
    file, again = kept(tmp_path).adapter, kept(tmp_path, "again").adapter
    assert file is not None and again is not None
    reader = GGUFReader(file)
    said = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    wanted = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}
    assert wanted.items() <= said.items()
    assert said["adapter.lora.alpha"] == 1
    assert (said["facellm.adapter.rank"], said["facellm.adapter.alpha"]) == ("4", "10")
    roles = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    names = {f"blk.{layer}.{role}.weight.lora_{side}" for layer in (0, 1) for role in roles for side in "ab"}
    assert {tensor.name for tensor in reader.tensors} == names
    assert file.read_bytes() == again.read_bytes()


def test_a_head_of_its_own_is_kept_apart_though_peft_saved_the_base_s_beside_it(tmp_path) -> None:
    model = checkpoints.internvl(tmp_path / "base", "qwen3")
    tuned(model, tmp_path / "adapter", target_modules=r"lm_head|.*language_model.*v_proj")
    done = kept(tmp_path)
    assert done.adapter is not None
    parts = {tensor.name: tensor.data for tensor in GGUFReader(done.adapter).tensors}
    merged = convert(Order(tmp_path / "base", tmp_path / "all", "F32", adapter=tmp_path / "adapter"), lambda *_: None)
    base, right = (
        {tensor.name: tensor.data for tensor in GGUFReader(file.language).tensors}["output.weight"]
        for file in (done, merged)
    )
    a, b = parts["output.weight.lora_a"], parts["output.weight.lora_b"]
    assert np.abs(right - base).max() > 0.1
    assert np.allclose(base + b @ a / len(a), right, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"target_modules": r".*language_model.*v_proj", "modules_to_save": ["embed_tokens"]},
            "replaces whole weights",
        ),
        ({"target_modules": r".*language_model.*(v_proj|embed_tokens)"}, "embedding table"),
    ],
)
def test_tables_are_not_kept_apart(tmp_path, options, said) -> None:
    tuned(checkpoints.internvl(tmp_path / "base", "qwen3"), tmp_path / "adapter", **options)
    with pytest.raises(Unsupported, match=said):
        kept(tmp_path)
    assert not (tmp_path / "out").exists()


def test_nor_is_a_tied_head_that_was_trained_whole(tmp_path) -> None:
    options = {"target_modules": r".*language_model.*v_proj", "modules_to_save": ["lm_head"]}
    tuned(checkpoints.internvl(tmp_path / "base"), tmp_path / "adapter", **options)
    with pytest.raises(Unsupported, match=r"replaces whole weights: lm_head"):
        kept(tmp_path)


def test_nor_is_one_for_another_base(tmp_path) -> None:
    tuned(checkpoints.internvl(tmp_path / "base"), tmp_path / "adapter", **KINDS["language"])
    altered(tmp_path / "adapter", lambda weights: {k.replace("language_model.", ""): v for k, v in weights.items()})
    with pytest.raises(BadCheckpoint, match=r"^None of"):
        kept(tmp_path)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_kept_apart(tmp_path) -> None:
    model = checkpoints.internvl(tmp_path / "base")
    tuned(model, tmp_path / "adapter", **KINDS["vision"])
    with pytest.raises(Unsupported, match="image part"):
        convert(
            Order(tmp_path / "base", tmp_path / "out", adapter=tmp_path / "adapter", keep_adapter=True), lambda *_: None
        )
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConversionError, match="none is given"):
        convert(Order(tmp_path / "base", tmp_path / "out", keep_adapter=True), lambda *_: None)
