"""Adapters: what is merged is what PEFT merges, and all of it is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from safetensors.numpy import load_file, save_file

from facellm_converters.convert import Order, convert
from facellm_converters.errors import Unsupported
from facellm_converters.layouts.checkpoint import open_checkpoint
from facellm_converters.layouts.names import plain
from facellm_converters.lora.adapter import read_adapter
from facellm_converters.lora.merge import merging

torch = pytest.importorskip("torch", reason="the checkpoints are made with PyTorch")
peft = pytest.importorskip("peft")

from tests.converters import checkpoints
from tests.converters.adapters import KINDS, MAKERS, altered, plainly, tuned


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_merged_is_what_peft_merges(tmp_path, name, kind) -> None:
    model = MAKERS[name](tmp_path / "base")
    before = {plain(key): values.clone() for key, values in model.state_dict().items()}
    right = {
        plain(key): values.numpy()
        for key, values in tuned(model, tmp_path / "adapter", **KINDS[kind]).merge_and_unload().state_dict().items()
    }
    if (name, kind) == ("qwen2", "table"):  # PEFT's merge changes the tied head too, as no training did: see below
        right["lm_head.weight"] = before["lm_head.weight"].numpy()
    changed = {key for key in right if key in before and not np.array_equal(right[key], before[key].numpy())}
    assert changed
    with open_checkpoint(tmp_path / "base", merging(read_adapter(tmp_path / "adapter"))) as found:
        for key in found.names:
            values = found.read(key)
            assert np.abs(values - right[key]).max() < 2e-6 * max(1, np.abs(right[key]).max()), key
            assert (found.raw(key) is None) == (key in changed), key
            rows = len(values) if values.ndim else 1
            pieces = [found.read(key, start, start + 7) for start in range(0, rows, 7)]
            assert np.allclose(np.concatenate(pieces), values, rtol=0, atol=1e-6), key


@pytest.mark.parametrize("kind", ["table", "saved table"])
def test_beside_a_changed_table_a_tied_head_is_what_it_was_in_training(tmp_path, kind) -> None:
    wrapped = tuned(checkpoints.internvl(tmp_path / "base"), tmp_path / "adapter", **KINDS[kind]).eval()
    ids = torch.arange(10, 40)[None]
    with torch.no_grad():
        right = wrapped(input_ids=ids).logits[0].numpy()
        last = wrapped(input_ids=ids, output_hidden_states=True).hidden_states[-1][0].numpy()
    with open_checkpoint(tmp_path / "base", merging(read_adapter(tmp_path / "adapter"))) as found:
        assert not found.text.tied
        assert np.abs(last @ found.read("lm_head.weight").T - right).max() < 1e-4 * right.std()
        assert np.abs(last @ found.read("language_model.embed_tokens.weight").T - right).max() > right.std()
    done = convert(Order(tmp_path / "base", tmp_path / "out", "F32", adapter=tmp_path / "adapter"), lambda *_: None)
    assert {"output.weight", "token_embd.weight"} <= {tensor.name for tensor in GGUFReader(done.language).tensors}


def test_a_head_of_its_own_is_changed(tmp_path) -> None:
    model = checkpoints.internvl(tmp_path / "base", "qwen3")
    wrapped = tuned(model, tmp_path / "adapter", target_modules=["lm_head", "v_proj"])
    right = wrapped.merge_and_unload().state_dict()["lm_head.weight"].numpy()
    with open_checkpoint(tmp_path / "base", merging(read_adapter(tmp_path / "adapter"))) as found:
        assert np.abs(found.read("lm_head.weight") - right).max() < 2e-6 * np.abs(right).max()


def _read_all(base: Path, adapter: Path, rows: int | None = None) -> dict[str, np.ndarray]:
    with open_checkpoint(base, merging(read_adapter(adapter))) as found:
        if rows is None:
            return {name: found.read(name) for name in found.names}
        shapes = {name: stored.shape(found.tensors.infos) for name, stored in found.names.items()}
        starts = {name: range(0, shape[0] if shape else 1, rows) for name, shape in shapes.items()}
        return {name: np.concatenate([found.read(name, at, at + rows) for at in starts[name]]) for name in found.names}


def test_an_adapter_of_the_hf_layout_fits_the_other_one(tmp_path) -> None:
    model = checkpoints.internvl(tmp_path / "base")
    checkpoints.chat_model(tmp_path / "chat", tmp_path / "base")
    tuned(model, tmp_path / "adapter", target_modules=["q_proj", "v_proj", "projection_layer", "fc1", "linear_1"])
    right, found, pieces = (
        _read_all(tmp_path / base, tmp_path / "adapter", rows)
        for base, rows in (("base", None), ("chat", None), ("chat", 7))
    )
    before = plainly(tmp_path / "base")
    key = "vision_tower.encoder.layer.1.attention.v_proj.weight"
    assert np.abs(right[key] - before[key]).max() > 0.1
    assert found.keys() == right.keys()
    for name, values in right.items():
        assert np.allclose(found[name], values, rtol=0, atol=2e-6), name
        assert np.allclose(pieces[name], values, rtol=0, atol=2e-6), name


@pytest.mark.parametrize("base", ["chat", "base"])
def test_an_adapter_of_joined_queries_keys_and_values(tmp_path, base) -> None:
    model = checkpoints.internvl(tmp_path / "base")
    checkpoints.chat_model(tmp_path / "chat", tmp_path / "base")
    tuned(model, tmp_path / "adapter", target_modules=["fc1"])
    random = np.random.default_rng(2)
    a, b = (random.standard_normal(shape).astype(np.float32) for shape in ((4, 64), (192, 4)))
    start = "base_model.model.vision_model.encoder.layers.1.attn.qkv"
    altered(tmp_path / "adapter", lambda _: {f"{start}.lora_A.weight": a, f"{start}.lora_B.weight": b})
    found = _read_all(tmp_path / base, tmp_path / "adapter", 7)
    before = plainly(tmp_path / "base")
    for part, letter in enumerate("qkv"):
        name = f"vision_tower.encoder.layer.1.attention.{letter}_proj.weight"
        right = before[name] + 2.5 * b[part * 64 : part * 64 + 64] @ a
        assert np.allclose(found[name], right, rtol=0, atol=1e-5), name


def test_pieces_of_a_joined_tensor_may_cross_its_parts(tmp_path) -> None:
    model = checkpoints.internvl(tmp_path / "base")
    checkpoints.chat_model(tmp_path / "chat", tmp_path / "base")
    tuned(model, tmp_path / "adapter", target_modules=["k_proj"])
    stored = "vision_model.encoder.layers.1.attn.qkv.weight"
    parts = _read_all(tmp_path / "base", tmp_path / "adapter")
    start = "vision_tower.encoder.layer.1.attention"
    right = np.concatenate([parts[f"{start}.{letter}_proj.weight"] for letter in "qkv"])
    with open_checkpoint(tmp_path / "chat", merging(read_adapter(tmp_path / "adapter"))) as found:
        for begin, end in ((0, None), (60, 70), (100, 192), (50, 150)):
            piece = found.tensors.read(stored, begin, end)
            assert np.allclose(piece, right[begin:end], rtol=0, atol=2e-6), (begin, end)


def test_a_vision_adapter_is_in_both_files(tmp_path) -> None:
    model = checkpoints.internvl(tmp_path / "base")
    tuned(model, tmp_path / "adapter", **KINDS["vision"])
    with_it = convert(Order(tmp_path / "base", tmp_path / "with", "F32", "F32", tmp_path / "adapter"), lambda *_: None)
    without = convert(Order(tmp_path / "base", tmp_path / "without", "F32", "F32"), lambda *_: None)
    for one, other, name in (
        (with_it.mmproj, without.mmproj, "v.blk.1.ffn_up.weight"),
        (with_it.language, without.language, "blk.1.ffn_down.weight"),
    ):
        mine, plain_one = ({t.name: t.data for t in GGUFReader(file).tensors}[name] for file in (one, other))
        assert not np.array_equal(mine, plain_one)
    fields = GGUFReader(with_it.language).fields
    assert fields["facellm.adapter.rank"].contents() == "4"
    assert fields["facellm.pair"].contents() != GGUFReader(without.language).fields["facellm.pair"].contents()


def test_pissa_is_merged_once_peft_has_made_it_an_adapter_of_the_published_base(tmp_path) -> None:
    base, folder, first = tmp_path / "base", tmp_path / "adapter", tmp_path / "first"
    model = checkpoints.internvl(base)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["up_proj"], init_lora_weights="pissa"))
    wrapped.peft_config["default"].init_lora_weights = True
    wrapped.save_pretrained(first)
    wrapped.peft_config["default"].init_lora_weights = "pissa"
    with torch.no_grad():
        for name, values in wrapped.named_parameters():
            if "lora_B" in name:
                values.mul_(1.5)
    wrapped.save_pretrained(folder)
    with pytest.raises(Unsupported, match="pissa"):
        read_adapter(folder)
    wrapped.save_pretrained(folder, path_initial_model_for_weight_conversion=str(first))
    found = _read_all(base, folder)
    for key, values in wrapped.merge_and_unload().state_dict().items():
        if "up_proj" in key:
            assert np.abs(found[plain(key)] - values.numpy()).max() < 1e-5, key


@pytest.mark.parametrize("copy", ["", "lm_head.weight", "language_model.lm_head.weight"])
def test_a_head_that_was_trained_whole_becomes_a_tensor_of_its_own(adapter, tmp_path, copy) -> None:
    base, folder = adapter
    if copy:
        weights = load_file(base / "model.safetensors")
        weights[copy] = plainly(base)["language_model.embed_tokens.weight"].copy()
        save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    head = np.random.default_rng(0).standard_normal((1010, 64)).astype(np.float32)
    altered(folder, lambda weights: weights | {"base_model.model.lm_head.weight": head})
    done = convert(Order(base, tmp_path / "out", "F32", adapter=folder), lambda *_: None)
    tensors = {t.name: t.data for t in GGUFReader(done.language).tensors}
    assert np.array_equal(tensors["output.weight"], head)
