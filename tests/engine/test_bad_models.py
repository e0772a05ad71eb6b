"""What is wrong with a model is told in time, each in its own words."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from facellm.core.ask import Question
from facellm.core.package import ModelPackage
from facellm.engine import errors
from facellm.engine.client import EngineClient
from facellm.engine.protocol import AskRequest, EngineOptions
from facellm.models.gguf_header import read_header

Edit = Callable[[bytes], bytes]


def fails(package: ModelPackage, kind: type[errors.EngineError], options: EngineOptions | None = None) -> str:
    """Loading raises exactly ``kind`` with a hint, leaves no child, and fails the same way when asked."""
    with EngineClient(package, options) as client:
        with pytest.raises(kind) as caught:
            client.load()
        assert type(caught.value) is kind
        assert caught.value.hint
        assert not client.alive
        with pytest.raises(kind):
            list(client.ask(AskRequest((), Question("Hello"))))
    return str(caught.value)


@pytest.fixture
def edited(tmp_path: Path) -> Callable[[Path, bytes, bytes], Path]:
    """A copy of a file with the first occurrence of some bytes replaced by as many others."""

    def edit(path: Path, old: bytes, new: bytes) -> Path:
        assert len(old) == len(new)
        copy = tmp_path / path.name
        shutil.copyfile(path, copy)
        with copy.open("r+b") as file:
            head = file.read(8 << 20)
            place = head.index(old)
            file.seek(place)
            file.write(new)
        return copy

    return edit


@pytest.fixture
def cut(tmp_path: Path) -> Callable[[Path, float], Path]:
    """The first share of a file."""

    def first(path: Path, share: float) -> Path:
        copy = tmp_path / path.name
        with path.open("rb") as file:
            copy.write_bytes(file.read(int(path.stat().st_size * share)))
        return copy

    return first


def test_a_missing_language_model(package: ModelPackage) -> None:
    assert "none.gguf is missing" in fails(replace(package, llm=Path("none.gguf")), errors.BadModel)


def test_a_missing_mmproj(package: ModelPackage) -> None:
    message = fails(replace(package, mmproj=package.mmproj.with_name("none.gguf")), errors.MissingProjector)
    assert "none.gguf is missing" in message


@pytest.mark.parametrize(
    "content", [b"", b"GGUF", b"PK\x03\x04 not a model at all", b"GGUF\x09\x00\x00\x00" + b"\0" * 40]
)
def test_a_file_that_is_no_model(package: ModelPackage, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "strange.gguf"
    path.write_bytes(content)
    assert "strange.gguf" in fails(replace(package, llm=path), errors.BadModel)


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.0005, "its header ends too early"), (0.5, "is cut short: {} bytes of {}")],
    ids=["in its header", "in its weights"],
)
def test_a_language_model_cut_short(
    package: ModelPackage, cut: Callable[[Path, float], Path], share: float, said: str
) -> None:
    whole = package.llm.stat().st_size
    message = fails(replace(package, llm=cut(package.llm, share)), errors.BadModel)
    assert package.llm.name in message
    assert said.format(f"{int(whole * share):,}", f"{whole:,}") in message


def test_an_mmproj_cut_short_says_by_how_much(package: ModelPackage, cut: Callable[[Path, float], Path]) -> None:
    message = fails(replace(package, mmproj=cut(package.mmproj, 0.9)), errors.BadModel)
    assert "cut short" in message
    assert f"{package.mmproj.stat().st_size:,}" in message


def test_the_two_files_swapped(package: ModelPackage) -> None:
    assert "not a language model" in fails(
        replace(package, llm=package.mmproj, mmproj=package.llm), errors.BadModel
    )  # fmt: skip


def test_a_language_model_in_place_of_the_mmproj(package: ModelPackage) -> None:
    assert "not an mmproj" in fails(replace(package, mmproj=package.llm), errors.BadModel)


def test_files_of_different_pairs(package: ModelPackage, edited: Callable[[Path, bytes, bytes], Path]) -> None:
    pair = read_header(package.mmproj)["facellm.pair"].encode()
    other = edited(package.mmproj, pair, b"0" * len(pair))
    assert "0" * len(pair) in fails(replace(package, mmproj=other), errors.WrongPair)


def test_an_mmproj_for_another_width(package: ModelPackage, edited: Callable[[Path, bytes, bytes], Path]) -> None:
    key = b"clip.vision.projection_dim\x04\x00\x00\x00"
    other = edited(package.mmproj, key + (576).to_bytes(4, "little"), key + (896).to_bytes(4, "little"))
    message = fails(replace(package, mmproj=other), errors.WrongPair)
    assert "576" in message
    assert "896" in message


def test_a_tensor_that_llama_cpp_misses_is_named(
    package: ModelPackage, edited: Callable[[Path, bytes, bytes], Path]
) -> None:
    broken = edited(package.llm, b"blk.7.attn_q.weight", b"blk.7.attn_x.weight")
    assert "blk.7.attn_q.weight" in fails(replace(package, llm=broken), errors.BadModel)


def test_an_mmproj_that_llama_cpp_does_not_know(
    package: ModelPackage, edited: Callable[[Path, bytes, bytes], Path]
) -> None:
    broken = edited(package.mmproj, b"nemotron_v2_vl", b"nemotron_v9_vl")
    assert "nemotron_v9_vl" in fails(replace(package, mmproj=broken), errors.BadModel)


def test_a_model_that_memory_cannot_hold(package: ModelPackage, edited: Callable[[Path, bytes, bytes], Path]) -> None:
    key = b"llama.context_length\x04\x00\x00\x00"
    endless = edited(package.llm, key + (8192).to_bytes(4, "little"), key + (2**31 - 1).to_bytes(4, "little"))
    message = fails(replace(package, llm=endless), errors.OutOfMemory, EngineOptions(context=2**31 - 1))
    assert "GB are free" in message


def test_a_gpu_that_is_not_there(package: ModelPackage, native: Callable[..., object]) -> None:
    if native("gpu_names"):
        pytest.skip("this llama.cpp has a GPU")
    assert "GPU" in fails(package, errors.NoGpu, EngineOptions(device="gpu"))


def test_a_model_without_a_chat_template(package: ModelPackage, edited: Callable[[Path, bytes, bytes], Path]) -> None:
    bare = edited(package.llm, b"tokenizer.chat_template", b"tokenizer.xxxx_template")
    assert "chat template" in fails(replace(package, llm=bare), errors.BadModel)


def test_a_runtime_that_sees_otherwise_is_refused(
    package: ModelPackage, edited: Callable[[Path, bytes, bytes], Path]
) -> None:
    header = read_header(package.mmproj)
    if "facellm.canary.embedding" not in header:
        pytest.skip("this pair carries no canary")
    width = header["clip.vision.projection_dim"]
    data = package.mmproj.read_bytes()[: 8 << 20]
    begin = data.index(b"facellm.canary.embedding") + len(b"facellm.canary.embedding") + 16
    values = data[begin : begin + 4 * width * header["facellm.canary.tokens"]]
    shifted = values[4 * width :] + values[: 4 * width]  # as if the picture had moved by one token
    other = edited(package.mmproj, values, shifted)
    assert "cosine" in fails(replace(package, mmproj=other), errors.RuntimeChanged)


def test_a_path_with_letters_of_many_scripts(package: ModelPackage, tmp_path: Path) -> None:
    folder = tmp_path / "Größe 写真 лицо"
    folder.mkdir()
    paths = [folder / f"été {name}.gguf" for name in ("llm", "mmproj")]
    for path, real in zip(paths, (package.llm, package.mmproj), strict=True):
        path.symlink_to(real)
    with EngineClient(replace(package, llm=paths[0], mmproj=paths[1]), EngineOptions(threads=1)) as client:
        assert client.load().llm_bytes == package.llm.stat().st_size


@pytest.mark.parametrize("name", [name for name in dir(errors) if isinstance(getattr(errors, name), type)])
def test_errors_survive_the_pipe(name: str) -> None:
    kind = getattr(errors, name)
    copy = pickle.loads(pickle.dumps(kind("What happened.", "What to do.")))
    assert type(copy) is kind
    assert str(copy) == "What happened."
    assert copy.hint == "What to do."
