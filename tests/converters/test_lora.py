"""Adapters: what is merged is what PEFT merges, all of it is used, and nothing else is taken for one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from safetensors.numpy import load_file, save_file

from facellm_converters.convert import Order, convert
from facellm_converters.errors import BadCheckpoint, Unsupported
from facellm_converters.layouts.checkpoint import open_checkpoint
from facellm_converters.layouts.names import plain
from facellm_converters.lora.adapter import CONFIG, WEIGHTS, read_adapter
from facellm_converters.lora.merge import merging

torch = pytest.importorskip("torch", reason="the checkpoints are made with PyTorch")

from tests.converters import checkpoints

peft = pytest.importorskip("peft")

LANGUAGE = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
MAKERS = {
    "qwen2": lambda folder: checkpoints.internvl(folder),
    "qwen3": lambda folder: checkpoints.internvl(folder, "qwen3"),
    "llava": checkpoints.llava,
}
KINDS = {
    "language": {"target_modules": LANGUAGE},
    "vision": {"target_modules": ["q_proj", "fc1", "fc2", "linear_1", "linear_2", "down_proj"]},
    "rslora": {"target_modules": LANGUAGE, "use_rslora": True},
    "patterns": {"target_modules": LANGUAGE, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"up_proj": 40}},
    "whole names": {
        "target_modules": LANGUAGE,
        "alpha_pattern": {r"^model.language_model.layers.0.mlp.up_proj": 40, r"model\.language_model\..*\.v_proj": 3},
    },
    "table": {"target_modules": ["embed_tokens", "v_proj"]},
    "saved": {"target_modules": ["v_proj"], "modules_to_save": ["linear_2"]},
    "saved table": {"target_modules": ["v_proj"], "modules_to_save": ["embed_tokens"]},
}


def tuned(model: Any, out: Path, **options: Any) -> Any:
    """An adapter of random numbers saved in ``out``; returns PEFT's model."""
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=10, **options))
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, values in wrapped.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                values.normal_(0, 0.2, generator=random)
    wrapped.save_pretrained(out)
    return wrapped


@pytest.fixture
def adapter(tmp_path) -> tuple[Path, Path]:
    """A ``qwen2`` checkpoint and an adapter of its language part."""
    model = checkpoints.internvl(tmp_path / "base")
    tuned(model, tmp_path / "adapter", **KINDS["language"])
    return tmp_path / "base", tmp_path / "adapter"


def altered(folder: Path, change) -> None:
    weights = load_file(folder / WEIGHTS)
    save_file(change(weights), folder / WEIGHTS)


def plainly(base: Path) -> dict[str, np.ndarray]:
    """The base's weights by their plain names."""
    return {plain(name): values for name, values in load_file(base / "model.safetensors").items()}


def configured(folder: Path, **values: object) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | values))


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
        starts = {name: range(0, found.shape(name)[0] if found.shape(name) else 1, rows) for name in found.names}
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
