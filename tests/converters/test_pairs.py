"""Converted pairs in llama.cpp against the checkpoints in transformers: image tokens and next-token logits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from facellm.core.canary import waves
from facellm_converters.convert import Converted, Order, convert

torch = pytest.importorskip("torch", reason="the checkpoints are made with PyTorch")

from tests.converters import checkpoints

MODELS = Path(__file__).parents[1] / "models"
PICTURES = [waves(checkpoints.IMAGE), np.ascontiguousarray(waves(checkpoints.IMAGE)[::-1, :, ::-1])]


def pair(folder: Path, out: Path, kind: str = "F32", mmproj: str = "F32") -> Converted:
    return convert(Order(folder, out, kind, mmproj), lambda *_: None)


def in_llama(script: str, *arguments: object) -> None:
    command = [sys.executable, str(MODELS / script), *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def seen(done: Converted, folder: Path) -> np.ndarray:
    """Image tokens ``[pictures, tokens, width]`` of llama.cpp."""
    np.save(folder / "in.npy", np.stack(PICTURES))
    in_llama("llama_embed.py", done.language, done.mmproj, folder / "in.npy", folder / "out.npy")
    return np.load(folder / "out.npy")


def wanted(model, mean, std) -> np.ndarray:
    """The same of transformers."""
    pixels = (np.stack(PICTURES).astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
    with torch.no_grad():
        found = model.get_image_features(pixel_values=torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))
    found = getattr(found, "pooler_output", found)
    found = torch.stack(list(found)) if isinstance(found, list | tuple) else found
    return found.reshape(len(PICTURES), -1, found.shape[-1]).numpy()


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, tuple[object, Path]]:
    root = tmp_path_factory.mktemp("models")
    return {
        "qwen2": (checkpoints.internvl(root / "qwen2"), root / "qwen2"),
        "qwen3": (checkpoints.internvl(root / "qwen3", "qwen3"), root / "qwen3"),
        "llava": (checkpoints.llava(root / "llava"), root / "llava"),
    }


@pytest.mark.parametrize("name", ["qwen2", "qwen3"])
def test_image_tokens_are_those_of_transformers(models, tmp_path, name) -> None:
    model, folder = models[name]
    found = seen(pair(folder, tmp_path / "out"), tmp_path)
    right = wanted(model, checkpoints.MEAN, checkpoints.STD)
    assert found.shape == right.shape
    assert cosines(found, right).min() > 0.99999


def test_openGVLabs_layout_gives_the_same_tensors(models, tmp_path) -> None:
    _, folder = models["qwen2"]
    checkpoints.chat_model(tmp_path / "chat", folder)
    ours, theirs = pair(folder, tmp_path / "hf", "F16", "F16"), pair(tmp_path / "chat", tmp_path / "own", "F16", "F16")
    for one, other in ((ours.language, theirs.language), (ours.mmproj, theirs.mmproj)):
        mine, own = ({t.name: t for t in GGUFReader(file).tensors} for file in (one, other))
        assert mine.keys() == own.keys()
        assert all(np.array_equal(mine[name].data, own[name].data) for name in mine)


def test_without_the_rolled_table_image_tokens_would_be_wrong(models, tmp_path, monkeypatch) -> None:
    model, folder = models["qwen2"]
    monkeypatch.setattr(np, "roll", lambda values, *_: values)
    done = pair(folder, tmp_path / "out")
    monkeypatch.undo()
    assert cosines(seen(done, tmp_path), wanted(model, checkpoints.MEAN, checkpoints.STD)).mean() < 0.95


def test_llava_loses_its_first_patch_in_llama_cpp_and_nothing_else(models, tmp_path) -> None:
    model, folder = models["llava"]
    found = seen(pair(folder, tmp_path / "out"), tmp_path)
    right = wanted(model, [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    assert cosines(found[:, :-1], right[:, 1:]).min() > 0.9999
    assert cosines(found, right).mean() < 0.9


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "llava"])
@pytest.mark.parametrize(("kind", "error"), [("F32", 0.02), ("F16", 0.05), ("Q8_0", 0.6)])
def test_logits_are_those_of_transformers(models, tmp_path, name, kind, error) -> None:
    model, folder = models[name]
    ids = np.random.default_rng(3).integers(5, 600, 48)
    with torch.no_grad():
        right = model(input_ids=torch.from_numpy(ids)[None]).logits[0].numpy()
    np.save(tmp_path / "ids.npy", ids.astype(np.int32))
    done = pair(folder, tmp_path / "out", kind)
    in_llama("llama_logits.py", done.language, tmp_path / "ids.npy", tmp_path / "logits.npy")
    found = np.load(tmp_path / "logits.npy")
    assert np.abs(found[:, : right.shape[1]] - right).max() < error * right.std()
    assert (found.argmax(-1) == right.argmax(-1)).mean() >= (0.9 if kind == "Q8_0" else 0.97)


@pytest.mark.parametrize("kind", ["Q4_K_M", "Q5_K_M", "Q6_K", "IQ4_XS"])
def test_k_quants_are_made_and_load(models, tmp_path, kind) -> None:
    _, folder = models["qwen2"]
    done = pair(folder, tmp_path / "out", kind, "Q8_0")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(
        [done.language.name, done.mmproj.name, done.card.name]
    )
    assert np.isfinite(seen(done, tmp_path)).all()


def test_the_same_bytes_again(models, tmp_path) -> None:
    _, folder = models["qwen3"]
    one, other = pair(folder, tmp_path / "one", "Q8_0"), pair(folder, tmp_path / "two", "Q8_0")
    assert one.language.read_bytes() == other.language.read_bytes()
    assert one.mmproj.read_bytes() == other.mmproj.read_bytes()


def test_shards_are_found_by_their_first(models, tmp_path) -> None:
    _, folder = models["qwen2"]
    done = convert(Order(folder, tmp_path / "out", "F32", "F16", split=200_000), lambda *_: None)
    assert "-00001-of-" in done.language.name
    assert len(list((tmp_path / "out").glob("*-of-*.gguf"))) > 2
    assert np.isfinite(seen(done, tmp_path)).all()


def test_shards_of_a_k_quant_are_its_one_file(models, tmp_path) -> None:
    _, folder = models["qwen2"]
    one = pair(folder, tmp_path / "one", "Q4_K_M", "F16").language
    done = convert(Order(folder, tmp_path / "out", "Q4_K_M", "F16", split=100_000), lambda *_: None)
    shards = sorted((tmp_path / "out").glob("*-of-*.gguf"))
    assert done.language == shards[0]
    assert len(shards) > 1
    assert sorted(file.suffix for file in (tmp_path / "out").iterdir()) == [".gguf"] * (len(shards) + 1) + [".md"]
    whole, first = GGUFReader(one), GGUFReader(shards[0])
    kept = {name: field.contents() for name, field in first.fields.items() if "split." not in name}
    for name, field in whole.fields.items():
        assert name.startswith("GGUF.") or kept[name] == field.contents(), name
    held = {tensor.name: tensor for shard in shards for tensor in GGUFReader(shard).tensors}
    assert list(held) == [tensor.name for tensor in whole.tensors]
    for tensor in whole.tensors:
        assert held[tensor.name].tensor_type == tensor.tensor_type
        assert held[tensor.name].data.tobytes() == tensor.data.tobytes()
    assert np.isfinite(seen(done, tmp_path)).all()
