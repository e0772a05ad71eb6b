"""Reads the metadata and the tensor table of a GGUF file without loading it: no other package.

The format is llama.cpp's ``docs/gguf.md`` (version 2 and 3, little endian). Long arrays (token
lists) are skipped unless small.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from facellm.core.errors import FaceLLMError

_SCALAR = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
#: Arrays longer than this (vocabularies) are skipped over; the canary is below it.
_LONGEST_ARRAY = 65536
_LONGEST_STRING = 1 << 24
_MOST_DIMENSIONS = 8
_PIECE = 1 << 16

#: How numbers are stored: name, numbers a block, bytes a block. ggml's table; the tests compare it with the gguf
#: package's, whose import takes longer than reading a header.
KINDS: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip


class HeaderError(FaceLLMError):
    """A file that should be a GGUF is not, or ends too early."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """A line of the tensor table. ``shape``: the fastest dimension first, as GGUF has it; ``kind``: a name of
    ``KINDS``, or "type N" for one that is newer."""

    name: str
    shape: tuple[int, ...]
    kind: str
    stored_bytes: int

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a file says of itself. ``lengths``: of the arrays that ``metadata`` leaves out."""

    metadata: dict[str, Any]
    lengths: dict[str, int]
    tensors: list[TensorEntry]


def read_header(path: Path, *, until: str = "") -> dict[str, Any]:
    """Metadata by key; string arrays and long arrays are left out. ``until``: stop reading after that key.

    Raises ``HeaderError`` when the file cannot be read, is no GGUF or ends inside the header.
    """
    with _named(path), path.open("rb") as file:
        return _metadata(file, path, until)[0]


def check_whole(path: Path) -> None:
    """Raise ``HeaderError`` when the file ends before the last tensor that its table names, or names none."""
    read_contents(path)


def read_contents(path: Path) -> Contents:
    """Metadata and tensor table of a whole file. Raises ``HeaderError`` as ``read_header`` and ``check_whole`` do."""
    with _named(path), path.open("rb") as file:
        metadata, lengths, count = _metadata(file, path)
        tensors, end = [], 0
        for _ in range(count):
            entry, offset = _entry(file)
            tensors.append(entry)
            end = max(end, offset + entry.stored_bytes)
        alignment = int(metadata.get("general.alignment", 32))
        needed, size = -(-file.tell() // alignment) * alignment + end, path.stat().st_size
    if not tensors and "split.count" not in metadata:  # the first of several files may hold metadata only
        raise HeaderError(f"{path.name} holds no weights.", "Convert or fetch it again.")
    if needed > size:
        raise HeaderError(f"{path.name} is cut short: {size:,} bytes of {needed:,}.", "Fetch or copy it again.")
    return Contents(metadata, lengths, tensors)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn what a damaged header does to the parser into ``HeaderError``."""
    try:
        yield
    except OSError as error:
        raise HeaderError(
            f"{path.name} cannot be read: {error.strerror or error}.", "Check its permissions."
        ) from error
    except (struct.error, KeyError, UnicodeDecodeError, OverflowError, ZeroDivisionError) as error:
        raise HeaderError(f"{path.name} is damaged: its header ends too early.", "Fetch or copy it again.") from error


def _metadata(file: IO[bytes], path: Path, until: str = "") -> tuple[dict[str, Any], dict[str, int], int]:
    """Metadata, the lengths of what is left out of it, and how many tensors the table that follows names."""
    if file.read(4) != b"GGUF":
        raise HeaderError(f"{path.name} is not a GGUF file.", "Choose a model file that ends in .gguf.")
    version, tensors, count = _unpack(file, "I"), _unpack(file, "Q"), _unpack(file, "Q")
    if version not in (2, 3) or count > 1 << 20:
        raise HeaderError(f"{path.name} is a GGUF of an unknown version ({version}).", "Convert the model anew.")
    found: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    for _ in range(count):
        key = _string(file)
        value = _value(file, _unpack(file, "I"))
        if isinstance(value, _LeftOut):
            lengths[key] = value.length
        else:
            found[key] = value
        if key == until:
            break
    return found, lengths, tensors


def _entry(file: IO[bytes]) -> tuple[TensorEntry, int]:
    """A line of the tensor table, and where its bytes begin."""
    name, dimensions = _string(file), _unpack(file, "I")
    if dimensions > _MOST_DIMENSIONS:
        raise OverflowError(dimensions)
    shape = tuple(_unpack(file, "Q") for _ in range(dimensions))
    number, offset = _unpack(file, "I"), _unpack(file, "Q")
    # A type newer than the table counts nothing: llama.cpp will judge.
    kind, block, stored = KINDS.get(number, (f"type {number}", 1, 0))
    return TensorEntry(name, shape, kind, math.prod(shape) // block * stored), offset


@dataclass(frozen=True, slots=True)
class _LeftOut:
    length: int


def _unpack(file: IO[bytes], code: str) -> Any:
    return struct.unpack("<" + code, file.read(struct.calcsize("<" + code)))[0]


def _string(file: IO[bytes]) -> str:
    length = _unpack(file, "Q")
    if length > _LONGEST_STRING:
        raise OverflowError(length)
    data = file.read(length)
    if len(data) < length:
        raise struct.error("string cut off")
    return data.decode("utf-8")


def _value(file: IO[bytes], kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind != _ARRAY:
        return _unpack(file, _SCALAR[kind])
    element, length = _unpack(file, "I"), _unpack(file, "Q")
    if element == _STRING:
        _skip_strings(file, length)
        return _LeftOut(length)
    size = struct.calcsize("<" + _SCALAR[element])
    if length > _LONGEST_ARRAY:
        file.seek(size * length, 1)
        return _LeftOut(length)
    return list(struct.unpack(f"<{length}{_SCALAR[element]}", file.read(size * length)))


def _skip_strings(file: IO[bytes], count: int) -> None:
    """A vocabulary has 150,000 of them, and as many merges: a read for each would take three times as long."""
    number, piece, at = struct.Struct("<Q").unpack_from, b"", 0
    while count:
        try:
            while count:
                at += 8 + number(piece, at)[0]
                count -= 1
        except struct.error:  # the next length lies behind this piece
            if at > len(piece):
                file.seek(at - len(piece), 1)
            piece, at = piece[at:] + file.read(_PIECE), 0
            if len(piece) < 8:
                raise
    file.seek(at - len(piece), 1)
