"""The nano's builder: the deltas arrive in the weights, all of them, and the bytes are the same each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from facellm.core.errors import ModelPartError
from facellm.core.package import ModelPackage
from facellm.models.gguf_header import HeaderError, read_header
from facellm.models.nano.build import build_nano
from facellm.models.nano.deltas import read_deltas
from facellm.models.nano.smollm2 import LanguagePart, permute_rows
from facellm.models.store import AssetStore
from safetensors.numpy import save_file

RNG = np.random.default_rng(0)


def deltas_file(path: Path, **extra: np.ndarray) -> Path:
    """Random deltas with LoRA on one language layer and one image block."""
    small = lambda *shape: (0.3 * RNG.standard_normal(shape)).astype(np.float16)  # noqa: E731
    tensors: dict[str, np.ndarray] = {
        "projector.norm.weight": np.ones(3072, np.float16),
        "projector.fc1.weight": small(576, 3072),
        "projector.fc2.weight": small(576, 576),
        "canary.embedding": np.ones((2, 576), np.float32),
        "language.layers.3.self_attn.q_proj.lora_a": small(4, 576),
        "language.layers.3.self_attn.q_proj.lora_b": small(576, 4),
        "language.layers.3.mlp.down_proj.lora_a": np.full((4, 1536), 3, np.int8),
        "language.layers.3.mlp.down_proj.lora_a.scale": np.full(4, 0.01, np.float16),
        "language.layers.3.mlp.down_proj.lora_b": small(576, 4),
        "tower.layers.7.mlp.fc1.lora_a": small(4, 768),
        "tower.layers.7.mlp.fc1.lora_b": small(3072, 4),
    }
    save_file(tensors | extra, path, metadata={"language_lora_scale": "2.0", "tower_lora_scale": "1.5", "version": "t"})
    return path


@pytest.fixture(scope="module")
def built(assets: AssetStore, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelPackage, Path, list[str]]:
    folder = tmp_path_factory.mktemp("nano")
    deltas = deltas_file(folder / "deltas.safetensors")
    stages: list[str] = []
    package = build_nano(assets, lambda stage, _share: stages.append(stage), out=folder / "first", deltas=deltas)
    return package, deltas, stages


def test_language_lora_arrives_in_llama_cpp_order(built: tuple[ModelPackage, Path, list[str]], assets: AssetStore) -> None:
    from gguf import GGUFReader, quants

    package, deltas_path, _ = built
    deltas = read_deltas(deltas_path)
    source = LanguagePart(assets.path("smollm2-135m-q4_1"))
    tensors = {t.name: t for t in GGUFReader(package.llm).tensors}
    for name, module, heads in (
        ("blk.3.attn_q.weight", "language.layers.3.self_attn.q_proj", 9),
        ("blk.3.ffn_down.weight", "language.layers.3.mlp.down_proj", 0),
    ):
        a, b = deltas.loras[module]
        change = 2.0 * b @ a
        change = permute_rows(change, heads) if heads else change
        wanted = source.weight(name) + change
        found = quants.dequantize(tensors[name].data, tensors[name].tensor_type).reshape(wanted.shape)
        step = np.abs(wanted).reshape(-1, 32).max(1).max() / 127
        assert np.abs(change).max() > 5 * step, "the change must stand out from rounding"
        assert np.abs(found - wanted).max() <= step, name


def test_an_untouched_matrix_stays(built: tuple[ModelPackage, Path, list[str]], assets: AssetStore) -> None:
    from gguf import GGUFReader, quants

    source = LanguagePart(assets.path("smollm2-135m-q4_1")).weight("blk.4.attn_q.weight")
    tensor = next(t for t in GGUFReader(built[0].llm).tensors if t.name == "blk.4.attn_q.weight")
    found = quants.dequantize(tensor.data, tensor.tensor_type).reshape(source.shape)
    assert np.abs(found - source).max() <= np.abs(source).max() / 127


def test_image_lora_arrives(built: tuple[ModelPackage, Path, list[str]], assets: AssetStore) -> None:
    from facellm.models.nano.clip_onnx import read_clip_tower
    from gguf import GGUFReader

    tower = read_clip_tower(assets.ensure("clip-vit-b16-int8"))
    deltas = read_deltas(built[1])
    a, b = deltas.loras["tower.layers.7.mlp.fc1"]
    tensors = {t.name: t for t in GGUFReader(built[0].mmproj).tensors}
    wanted = tower["encoder.layers.7.mlp.fc1.weight"] + 1.5 * b @ a
    assert np.abs(1.5 * b @ a).max() > 1
    assert np.abs(tensors["v.blk.7.ffn_up.weight"].data.astype(np.float32) - wanted).max() < 2e-3
    plain = tower["encoder.layers.6.mlp.fc1.weight"]
    assert np.abs(tensors["v.blk.6.ffn_up.weight"].data.astype(np.float32) - plain).max() < 2e-3


def test_headers_say_what_belongs_together(built: tuple[ModelPackage, Path, list[str]]) -> None:
    language, eyes = read_header(built[0].llm), read_header(built[0].mmproj)
    assert language["facellm.pair"] == eyes["facellm.pair"]
    assert eyes["clip.vision.projection_dim"] == language["llama.embedding_length"] == 576
    assert "system" not in language["tokenizer.chat_template"]
    assert len(eyes["facellm.canary.embedding"]) == 2 * 576


def test_the_same_bytes_each_time(built: tuple[ModelPackage, Path, list[str]], assets: AssetStore, tmp_path: Path) -> None:
    again = build_nano(assets, out=tmp_path, deltas=built[1])
    assert again.llm.read_bytes() == built[0].llm.read_bytes()
    assert again.mmproj.read_bytes() == built[0].mmproj.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([again.llm.name, again.mmproj.name])


def test_a_tensor_that_nothing_uses_is_an_error(tmp_path: Path) -> None:
    path = deltas_file(tmp_path / "d.safetensors", **{"language.layers.3.norm.weight": np.ones(3, np.float16)})
    with pytest.raises(ModelPartError, match="nothing uses"):
        read_deltas(path)


def test_lora_for_a_part_that_is_not_there_is_an_error(assets: AssetStore, tmp_path: Path) -> None:
    extra = {
        "tower.layers.11.mlp.fc1.lora_a": np.zeros((1, 768), np.float16),
        "tower.layers.11.mlp.fc1.lora_b": np.zeros((3072, 1), np.float16),
    }
    path = deltas_file(tmp_path / "d.safetensors", **extra)
    with pytest.raises(ModelPartError, match=r"tower\.layers\.11"):
        build_nano(assets, out=tmp_path / "out", deltas=path)
    assert list((tmp_path / "out").iterdir()) == []


def test_missing_and_damaged_deltas_say_so(tmp_path: Path) -> None:
    with pytest.raises(ModelPartError, match="missing"):
        read_deltas(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not at all")
    with pytest.raises(ModelPartError, match="damaged"):
        read_deltas(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("data", [b"", b"GGUF", b"PK\x03\x04" * 20, b"GGUF\x03\x00\x00\x00" + b"\xff" * 16])
def test_a_header_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    with pytest.raises(HeaderError):
        read_header(path)


def test_a_header_cut_anywhere_is_refused(built: tuple[ModelPackage, Path, list[str]], tmp_path: Path) -> None:
    data = built[0].mmproj.read_bytes()[:3000]
    path = tmp_path / "cut.gguf"
    for length in range(24, 3000, 97):
        path.write_bytes(data[:length])
        with pytest.raises(HeaderError):
            read_header(path)
