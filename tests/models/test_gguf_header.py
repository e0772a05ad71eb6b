"""The small header reader, against files of the format's own writer and against damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facellm.models.gguf_header import HeaderError, check_whole, read_header


@pytest.fixture
def file(tmp_path: Path) -> Path:
    from gguf import GGUFWriter

    writer = GGUFWriter(tmp_path / "x.gguf", "clip")
    writer.add_name("Größe")
    writer.add_uint32("clip.vision.image_size", 224)
    writer.add_float32("eps", 0.5)
    writer.add_bool("yes", True)
    writer.add_array("tokens", ["a", "b"] * 50)
    writer.add_array("mean", [0.25, 0.5])
    writer.add_uint64("last", 2**40)
    writer.add_tensor("t", np.arange(64, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "x.gguf"


def test_reads_numbers_texts_and_short_arrays(file: Path) -> None:
    header = read_header(file)
    assert header["general.name"] == "Größe"
    assert (header["clip.vision.image_size"], header["eps"], header["yes"], header["last"]) == (224, 0.5, True, 2**40)
    assert header["mean"] == [0.25, 0.5]
    assert "tokens" not in header


def test_stops_where_told(file: Path) -> None:
    assert "last" not in read_header(file, until="eps")


@pytest.mark.parametrize("data", [b"", b"GGUF", b"PK\x03\x04" * 20, b"GGUF\x03\x00\x00\x00" + b"\xff" * 16])
def test_what_is_no_gguf_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    with pytest.raises(HeaderError):
        read_header(path)


def test_a_header_cut_anywhere_is_refused(file: Path) -> None:
    data = file.read_bytes()
    end = data.index(b"last") + 4 + 4 + 8
    for length in range(0, end, 3):
        file.write_bytes(data[:length])
        with pytest.raises(HeaderError):
            read_header(file)


def test_a_file_that_ends_before_its_tensors_is_refused(file: Path) -> None:
    check_whole(file)
    data = file.read_bytes()
    file.write_bytes(data[:-64])
    read_header(file)
    with pytest.raises(HeaderError, match="cut short"):
        check_whole(file)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(HeaderError, match="cannot be read"):
        read_header(tmp_path / "none.gguf")


def test_what_follows_long_and_many_strings_is_found(tmp_path: Path) -> None:
    """Lengths that lie across two reads, texts longer than a read, and empty ones."""
    from gguf import GGUFWriter

    for seed in range(8):
        path, random = tmp_path / f"{seed}.gguf", np.random.default_rng(seed)
        lengths = [0, 1, 70_000, 65_528, 65_520, *random.integers(0, 40, 20_000).tolist(), 200_000, 3]
        writer = GGUFWriter(path, "qwen2")
        writer.add_array("texts", ["x" * length for length in lengths])
        writer.add_string("after", "here")
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        assert read_header(path)["after"] == "here"
        path.write_bytes(path.read_bytes()[:-60])
        with pytest.raises(HeaderError):
            read_header(path)
