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
from facellm_converters.errors import BadCheckpoint, ConversionError, Unsupported
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
    "table": {"target_modules": ["embed_tokens", "v_proj"]},
    "saved": {"target_modules": ["v_proj"], "modules_to_save": ["linear_2"]},
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


def test_kept_apart_it_holds_the_same_change(tmp_path) -> None:
    model = checkpoints.llava(tmp_path / "base")
    tuned(model, tmp_path / "adapter", **KINDS["patterns"])
    order = Order(tmp_path / "base", tmp_path / "out", "F32", "F32", tmp_path / "adapter", keep_adapter=True)
    done = convert(order, lambda *_: None)
    merged = convert(Order(tmp_path / "base", tmp_path / "all", "F32", "F32", tmp_path / "adapter"), lambda *_: None)
    assert done.adapter is not None
    parts = {t.name: t.data for t in GGUFReader(done.adapter).tensors}
    base, right = ({t.name: t.data for t in GGUFReader(file.language).tensors} for file in (done, merged))
    names = {name.removesuffix(".lora_a") for name in parts if name.endswith(".lora_a")}
    assert len(names) == 14
    for name in names:
        a, b = parts[f"{name}.lora_a"], parts[f"{name}.lora_b"]
        assert np.allclose(base[name] + b @ a / len(a), right[name], atol=2e-6), name


def test_kept_apart_llama_cpp_adds_it(adapter, tmp_path) -> None:
    import llama_cpp

    base, folder = adapter
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


def test_a_head_that_was_trained_whole_becomes_a_tensor_of_its_own(adapter, tmp_path) -> None:
    base, folder = adapter
    head = np.random.default_rng(0).standard_normal((1010, 64)).astype(np.float32)
    altered(folder, lambda weights: weights | {"base_model.model.lm_head.weight": head})
    done = convert(Order(base, tmp_path / "out", "F32", adapter=folder), lambda *_: None)
    tensors = {t.name: t.data for t in GGUFReader(done.language).tensors}
    assert np.array_equal(tensors["output.weight"], head)


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
