"""Long lists are packed at once; a file must be the same as the library's own writer makes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gguf")

from gguf import GGUFReader, GGUFWriter, TokenType

from facellm_converters.write.writer import Writer

LISTS: dict[str, list[Any]] = {
    "texts": ["Ġso", "", "▁ß", "語\n", "<|im_end|>"] * 40,
    "enums": [TokenType.NORMAL, TokenType.CONTROL, TokenType.UNUSED] * 50,
    "numbers": [-(2**31), -1, 0, 2**31 - 1] * 30,
    "fractions": [0.5, -1000.0] * 60,
    "flags": [True, False] * 60,
    "few": ["a", "b"],
}


def written(kind: type[GGUFWriter], path: Path, name: str) -> bytes:
    writer = kind(path, "llama")
    writer.add_array(name, LISTS[name])
    writer.add_uint32("after", 7)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path.read_bytes()


@pytest.mark.parametrize("name", LISTS)
def test_the_bytes_are_the_librarys_own(name: str, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.gguf", tmp_path / "theirs.gguf"
    assert written(Writer, ours, name) == written(GGUFWriter, theirs, name)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "texts.gguf"
    written(Writer, path, "texts")
    assert GGUFReader(path).fields["texts"].contents() == LISTS["texts"]


def test_a_mixed_list_is_refused_as_by_the_library(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "mixed.gguf", "llama")
    writer.add_array("mixed", ["a", 1] * 50)
    writer.write_header_to_file()
    with pytest.raises(ValueError, match="same type"):
        writer.write_kv_data_to_file()
    writer.close()
