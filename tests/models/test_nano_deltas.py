"""Trained deltas: everything in the file is used, and nothing that matters is guessed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from facellm.core.errors import ModelPartError
from facellm.models.nano.deltas import read_deltas
from facellm.models.nano.pair import DELTAS
from facellm.models.nano.tensor_file import read_tensors
from facellm.models.nano.tensor_parts import content_sha256, tensor_parts
from tests.models.trained import METADATA, noise, some_tensors, write_deltas


def test_reads_what_the_formats_own_library_wrote(tmp_path: Path) -> None:
    wanted = some_tensors() | {
        "empty": np.zeros((0, 3), np.float32),
        "double": np.arange(3.0),
        "one": np.float32(2)[None],
    }
    tensors, metadata = read_tensors(write_deltas(tmp_path / "d.safetensors", wanted))
    assert metadata == METADATA
    assert set(tensors) == set(wanted)
    for name, tensor in wanted.items():
        assert tensors[name].dtype == tensor.dtype
        assert np.array_equal(tensors[name], tensor)


def test_int8_is_restored_with_its_scales(tmp_path: Path) -> None:
    deltas = read_deltas(write_deltas(tmp_path / "d.safetensors"))
    stored = some_tensors()
    name = "language.layers.3.mlp.down_proj"
    a = stored[f"{name}.lora_a"].astype(float) * stored[f"{name}.lora_a.scale"].astype(float)[:, None]
    b = stored[f"{name}.lora_b"].astype(float) * stored[f"{name}.lora_b.scale"].astype(float)[:, None]
    assert np.allclose(deltas.loras[name].change(), 2.0 * b @ a, rtol=1e-12, atol=0)
    assert (deltas.version, deltas.trained, deltas.choice_temperature) == ("t1", "on noise", 1.25)


def test_the_sum_over_an_int8_rank_is_exact_whatever_the_order(tmp_path: Path) -> None:
    """So that the built bytes do not depend on how a machine's BLAS adds."""
    from fractions import Fraction

    rng = np.random.default_rng(1)
    tensors = some_tensors()
    name = "language.layers.3.mlp.down_proj"
    tensors[f"{name}.lora_a"] = rng.integers(-127, 128, (32, 1536)).astype(np.int8)
    tensors[f"{name}.lora_a.scale"] = rng.uniform(1e-4, 0.1, 32).astype(np.float16)
    tensors[f"{name}.lora_b"] = rng.integers(-127, 128, (576, 32)).astype(np.int8)
    lora = read_deltas(write_deltas(tmp_path / "d.safetensors", tensors)).loras[name]
    product = lora.b @ lora.a
    shuffled = rng.permutation(32)
    assert np.array_equal(product, lora.b[:, shuffled] @ lora.a[shuffled])
    exact = sum(
        (Fraction(float(x)) * Fraction(float(y)) for x, y in zip(lora.b[5], lora.a[:, 7], strict=True)), Fraction(0)
    )
    assert Fraction(float(product[5, 7])) == exact


@pytest.mark.parametrize(
    "name",
    [
        "language.layers.3.norm.weight",
        "language.layers.30.mlp.up_proj.lora_a",
        "language.layers.3.self_attn.out_proj.lora_a",
        "tower.layers.11.mlp.fc1.lora_a",
        "tower.layers.7.mlp.up_proj.lora_a",
        "vision.layers.7.mlp.fc1.lora_a",
        "language.layers.3.self_attn.v_proj.lora_b",
        "projector.fc1.bias",
        "language.layers.3.self_attn.q_proj.lora_a.zero",
    ],
)
def test_a_tensor_that_nothing_uses_is_an_error(tmp_path: Path, name: str) -> None:
    path = write_deltas(tmp_path / "d.safetensors", some_tensors() | {name: noise(4, 768)})
    with pytest.raises(ModelPartError, match="nothing uses") as caught:
        read_deltas(path)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "replacement"),
    [
        ("projector.norm.weight", None),
        ("projector.fc1.weight", noise(576, 576)),
        ("projector.fc2.weight", np.zeros((576, 576), np.int8)),
        ("canary.embedding", np.zeros((8, 575), np.float32)),
        ("language.layers.3.self_attn.q_proj.lora_b", None),
        ("language.layers.3.self_attn.q_proj.lora_b", noise(576, 5)),
        ("language.layers.3.mlp.down_proj.lora_a.scale", None),
        ("language.layers.3.mlp.down_proj.lora_a.scale", np.ones(5, np.float16)),
        ("tower.layers.7.mlp.fc1.lora_a", np.full((4, 768), np.nan, np.float16)),
        ("tower.layers.7.mlp.fc1.lora_a", np.full((4, 768), np.inf, np.float16)),
    ],
)
def test_a_tensor_that_cannot_be_right_is_an_error(tmp_path: Path, name: str, replacement: np.ndarray | None) -> None:
    tensors = some_tensors()
    del tensors[name]
    if replacement is not None:
        tensors[name] = replacement
    with pytest.raises(ModelPartError, match=name.removesuffix(".scale").removesuffix(".lora_b")):
        read_deltas(write_deltas(tmp_path / "d.safetensors", tensors))


@pytest.mark.parametrize("key", ["language_lora_scale", "tower_lora_scale", "choice_temperature", "version"])
def test_metadata_is_never_guessed(tmp_path: Path, key: str) -> None:
    without = {name: value for name, value in METADATA.items() if name != key}
    with pytest.raises(ModelPartError, match=key):
        read_deltas(write_deltas(tmp_path / "d.safetensors", metadata=without))


@pytest.mark.parametrize("value", ["nan", "-1", "0", "two"])
def test_a_scale_that_is_no_number_is_an_error(tmp_path: Path, value: str) -> None:
    with pytest.raises(ModelPartError, match="tower_lora_scale"):
        read_deltas(write_deltas(tmp_path / "d.safetensors", metadata=METADATA | {"tower_lora_scale": value}))


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelPartError, match="deltas are not found"):
        read_deltas(tmp_path / "none.safetensors")


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    whole = write_deltas(tmp_path / "d.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    damaged = [b"", b"not at all", whole[:-1], whole[: 8 + length // 2], whole + b"x", b"\xff" * 8 + whole[8:],
               whole[:8] + b"[]" + whole[10:], whole.replace(b'"F16"', b'"Q16"', 1)]  # fmt: skip
    for number, data in enumerate(damaged):
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(data)
        with pytest.raises(ModelPartError, match="damaged"):
            read_deltas(path)


def test_the_deltas_that_are_shipped_are_whole() -> None:
    deltas = read_deltas(DELTAS)
    assert deltas.canary is not None
    assert {module.split(".")[0] for module in deltas.loras} == {"language", "tower"}
    assert DELTAS.stat().st_size <= 16_000_000


def test_one_content_has_one_hash_in_whatever_order_its_metadata_was_written(tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{name}.safetensors" for name in "abc")
    save_file({"b": np.arange(6, dtype=np.int8), "a": np.ones(4, np.float32)}, first, metadata={"x": "1", "y": "2"})
    header, body = tensor_parts(first)
    header["__metadata__"] = dict(reversed(header["__metadata__"].items()))
    text = json.dumps(header).encode()
    second.write_bytes(len(text).to_bytes(8, "little") + text + body)
    assert first.read_bytes() != second.read_bytes()
    assert content_sha256(first) == content_sha256(second)
    save_file({"b": np.arange(6, dtype=np.int8), "a": np.zeros(4, np.float32)}, third, metadata={"x": "1", "y": "2"})
    assert content_sha256(third) != content_sha256(first)
