"""What can be imported, what is refused and why, and how a pair gets into the model folder."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facellm.core.errors import FaceLLMError
from facellm.models.gguf_header import HeaderError
from facellm.models.importing import QUANTS, Found, SourceKind, find_pair, recognise

WEIGHTS = 3 << 20


def write(path: Path, architecture: str = "qwen2", *, weights: int = 64, **fields: Any) -> Path:
    """A whole GGUF with so many weights."""
    from gguf import GGUFWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, architecture)
    for name, value in fields.items():
        key = name.replace("__", ".")
        writer.add_uint32(key, value) if isinstance(value, int) else writer.add_string(key, value)
    writer.add_tensor("w", np.arange(weights, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def eyes(path: Path, **fields: Any) -> Path:
    return write(path, "clip", clip__vision__image_size=448, **fields)


def pair(folder: Path, weights: int = 64, **fields: Any) -> Path:
    about: dict[str, Any] = {"general__name": "Tiny", "general__file_type": 7, "qwen2__embedding_length": 64} | fields
    write(folder / "tiny-Q8_0.gguf", weights=weights, **about)
    eyes(folder / "mmproj-tiny.gguf", general__file_type=1, clip__vision__projection_dim=64)
    return folder


def checkpoint(folder: Path, *names: str, **config: Any) -> Path:
    folder.mkdir(parents=True)
    said = {"architectures": ["InternVLForConditionalGeneration"]} | config
    (folder / "config.json").write_text(json.dumps(said))
    for name in names or ("model.safetensors",):
        (folder / name).write_bytes(bytes(100))
    return folder


def refused(text: str | Path) -> FaceLLMError:
    with pytest.raises(FaceLLMError) as caught:
        recognise(str(text))
    assert caught.value.hint
    return caught.value


def test_a_folder_with_a_pair(tmp_path: Path) -> None:
    folder = pair(tmp_path / "some model")
    size = sum(file.stat().st_size for file in folder.iterdir())
    found = recognise(str(folder))
    said = "language model Q8_0 and its image part F16"
    assert found == Found(SourceKind.PAIR, "Tiny", "some-model", size, said)


@pytest.mark.parametrize("form", ['"{}"', "'{}'", "  {}\n", "file://{}", "file://localhost{}", "' {} '"])
@pytest.mark.skipif(os.name == "nt", reason="forms of Unix paths")
def test_paths_as_they_are_pasted(tmp_path: Path, form: str) -> None:
    folder = pair(tmp_path / "models")
    assert recognise(form.format(folder)).kind is SourceKind.PAIR


def test_a_file_address_with_escapes_and_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pair(tmp_path / "größe 1")
    assert "%20" in folder.as_uri()
    assert recognise(folder.as_uri()).title == "Tiny"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert recognise("~/größe 1").title == "Tiny"


@pytest.mark.parametrize("name", ["tiny-Q8_0.gguf", "mmproj-tiny.gguf"])
def test_either_file_of_a_pair(tmp_path: Path, name: str) -> None:
    found = recognise(str(pair(tmp_path / "x") / name))
    assert (found.kind, found.name) == (SourceKind.PAIR, "tiny-Q8_0")


def test_a_language_model_among_several_takes_the_only_image_part(tmp_path: Path) -> None:
    other = write(pair(tmp_path / "x") / "other-F16.gguf", general__name="Other")
    assert recognise(str(other)).title == "Other"
    assert "holds 2 and 1" in str(refused(tmp_path / "x"))
    assert "image part" in str(refused(tmp_path / "x" / "mmproj-tiny.gguf"))


def test_of_several_image_parts_the_one_of_the_same_pair(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    llm = write(folder / "a.gguf", facellm__pair="p1")
    eyes(folder / "eyes-1.gguf", facellm__pair="p1")
    eyes(folder / "eyes-2.gguf", facellm__pair="p2")
    found = find_pair(llm)
    assert found is not None
    assert found.package.mmproj.name == "eyes-1.gguf"
    assert "exactly one image part" in str(refused(write(folder / "b.gguf")))


def test_shards_are_one_model_whichever_is_named(tmp_path: Path) -> None:
    names = [f"big-0000{number}-of-00002.gguf" for number in (1, 2)]
    for name in names:
        write(tmp_path / name, split__count=2)
    eyes(tmp_path / "mmproj.gguf")
    for name in names:
        found = recognise(str(tmp_path / name))
        assert (found.name, "in 2 shards" in found.detail) == ("big", True)
    assert find_pair(tmp_path).files == tuple(tmp_path / name for name in (*names, "mmproj.gguf"))  # type: ignore[union-attr]
    (tmp_path / names[1]).unlink()
    assert "big-00002-of-00002.gguf" in str(refused(tmp_path / names[0]))
    (tmp_path / names[0]).unlink()
    write(tmp_path / names[1], split__count=2)
    assert "first shard" in str(refused(tmp_path / names[1]))


def test_a_language_model_without_eyes(tmp_path: Path) -> None:
    llm = write(tmp_path / "x" / "a.gguf")
    assert "exactly one image part" in str(refused(llm))
    assert "holds 1 and 0" in str(refused(llm.parent))


def test_eyes_without_a_language_model(tmp_path: Path) -> None:
    assert "Choose the language model" in refused(eyes(tmp_path / "mmproj.gguf")).hint


def test_a_pair_of_different_models(tmp_path: Path) -> None:
    folder = pair(tmp_path / "x", qwen2__embedding_length=96)
    assert "embeddings of 96 and of 64" in str(refused(folder))
    assert "embeddings of 96 and of 64" in str(refused(folder / "tiny-Q8_0.gguf"))


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    folder = pair(tmp_path / "x")
    adapter = write(folder / "tiny-adapter.gguf", general__type="adapter")
    assert "LoRA adapter" in str(refused(adapter))
    assert recognise(str(folder)).kind is SourceKind.PAIR
    peft = tmp_path / "peft"
    peft.mkdir()
    (peft / "adapter_config.json").write_text("{}")
    (peft / "adapter_model.safetensors").write_bytes(b"")
    assert "LoRA adapter" in str(refused(peft))


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(HeaderError, match="not a GGUF"):
        recognise(str(tmp_path / "x.gguf"))
    (tmp_path / "x.zip").write_bytes(b"PK")
    assert "no model that can be imported" in str(refused(tmp_path / "x.zip"))


def test_a_checkpoint(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "face-vl")
    found = Found(SourceKind.CHECKPOINT, "face-vl", "face-vl", 100, "InternVLForConditionalGeneration, one file")
    for one in (folder, folder / "config.json", folder / "model.safetensors"):
        assert recognise(str(one)) == found


def test_a_checkpoint_of_an_unknown_kind_is_named(tmp_path: Path) -> None:
    assert "GemmaThing" in recognise(str(checkpoint(tmp_path / "x", architectures=["GemmaThing"]))).detail


def test_a_checkpoint_in_the_hubs_cache_is_called_as_its_model(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "models--owner--face-vl" / "snapshots" / "0123abcd")
    assert recognise(str(folder)).name == "face-vl"


def test_a_checkpoint_without_one_of_its_shards(tmp_path: Path) -> None:
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    folder = checkpoint(tmp_path / "x", *names)
    index = {"weight_map": {"a": names[0], "b": names[1]}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert recognise(str(folder)).detail.endswith("2 shards")
    (folder / names[1]).unlink()
    assert names[1] in str(refused(folder))


def test_folders_that_are_half_a_checkpoint(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "x")
    (folder / "config.json").write_text("{")
    assert "cannot be read" in str(refused(folder))
    (folder / "config.json").write_text("[]")
    assert "no object" in str(refused(folder))
    (folder / "config.json").unlink()
    assert "no config.json" in str(refused(folder))
    (folder / "model.safetensors").unlink()
    assert "neither" in str(refused(folder))
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert "no safetensors" in str(refused(folder))


def test_a_folder_with_both_is_not_guessed_about(tmp_path: Path) -> None:
    folder = pair(checkpoint(tmp_path / "x"))
    assert "a checkpoint and GGUF files" in str(refused(folder))
    assert recognise(str(folder / "tiny-Q8_0.gguf")).kind is SourceKind.PAIR


def test_a_model_of_the_hub() -> None:
    found = recognise("owner/Face.VL-1B@v2")
    assert (found.kind, found.title, found.name, found.bytes) == (SourceKind.HUB, "owner/Face.VL-1B", "Face.VL-1B", 0)
    assert "at v2" in found.detail
    assert recognise("owner/nano").name != "nano"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Nothing is named"), ("  ''  ", "Nothing is named"), ("a\0b", "Nothing is named"),
        ("/no/such/folder", "no file or folder"), ("nothing", "no file or folder"), ("models/x.gguf", "no file or"),
        ("https://huggingface.co/a/b", "is an address"), ("a/b@../c", "no revision"), ("x" * 5000, ""),
    ],
)  # fmt: skip
def test_what_is_neither(text: str, says: str) -> None:
    assert says in str(refused(text))


def test_recognising_reads_headers_only(tmp_path: Path) -> None:
    folder = pair(tmp_path / "x", weights=WEIGHTS)
    recognise(str(folder))
    begun = time.perf_counter()
    recognise(str(folder))
    assert time.perf_counter() - begun < 0.05


def test_the_kinds_offered_are_the_converters_own() -> None:
    pytest.importorskip("gguf")
    from facellm_converters.convert import TEXT_KINDS

    assert {name for name, _ in QUANTS} <= set(TEXT_KINDS)
    assert all(text for _, text in QUANTS)
