"""Reads the metadata of a GGUF file without loading it: a few kilobytes, no other package.

The format is llama.cpp's ``docs/gguf.md`` (version 2 and 3, little endian). Long arrays (token
lists) are skipped unless small.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from facellm.core.errors import FaceLLMError

_SCALAR = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
#: Arrays longer than this (vocabularies) are skipped over; the canary is below it.
_LONGEST_ARRAY = 65536
_LONGEST_STRING = 1 << 24


class HeaderError(FaceLLMError):
    """A file that should be a GGUF is not, or ends too early."""


def read_header(path: Path, *, until: str = "") -> dict[str, Any]:
    """Metadata by key; string arrays and long arrays are left out. ``until``: stop reading after that key.

    Raises ``HeaderError`` when the file cannot be read, is no GGUF or ends inside the header.
    """
    with _named(path), path.open("rb") as file:
        return _metadata(file, path, until)[0]


def check_whole(path: Path) -> None:
    """Raise ``HeaderError`` when the file ends before the last tensor that its table names, or names none."""
    with _named(path), path.open("rb") as file:
        metadata, tensors = _metadata(file, path)
        end = 0
        for _ in range(tensors):
            _string(file)
            shape = [_unpack(file, "Q") for _ in range(_unpack(file, "I"))]
            kind, offset = _unpack(file, "I"), _unpack(file, "Q")
            end = max(end, offset + _stored_bytes(kind, math.prod(shape)))
        alignment = int(metadata.get("general.alignment", 32))
        needed, size = -(-file.tell() // alignment) * alignment + end, path.stat().st_size
    if tensors == 0 and "split.count" not in metadata:  # the first of several files may hold metadata only
        raise HeaderError(f"{path.name} holds no weights.", "Convert or fetch it again.")
    if needed > size:
        raise HeaderError(f"{path.name} is cut short: {size:,} bytes of {needed:,}.", "Fetch or copy it again.")


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


def _metadata(file: IO[bytes], path: Path, until: str = "") -> tuple[dict[str, Any], int]:
    """Metadata, and how many tensors the table that follows names."""
    if file.read(4) != b"GGUF":
        raise HeaderError(f"{path.name} is not a GGUF file.", "Choose a model file that ends in .gguf.")
    version, tensors, count = _unpack(file, "I"), _unpack(file, "Q"), _unpack(file, "Q")
    if version not in (2, 3) or count > 1 << 20:
        raise HeaderError(f"{path.name} is a GGUF of an unknown version ({version}).", "Convert the model anew.")
    found: dict[str, Any] = {}
    for _ in range(count):
        key = _string(file)
        value = _value(file, _unpack(file, "I"))
        if value is not None:
            found[key] = value
        if key == until:
            break
    return found, tensors


def _stored_bytes(kind: int, numbers: int) -> int:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        block, stored = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except ValueError:  # a type newer than the table: llama.cpp will judge
        return 0
    return int(numbers // block * stored)


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
        for _ in range(length):
            file.seek(_unpack(file, "Q"), 1)
        return None
    size = struct.calcsize("<" + _SCALAR[element])
    if length > _LONGEST_ARRAY:
        file.seek(size * length, 1)
        return None
    return list(struct.unpack(f"<{length}{_SCALAR[element]}", file.read(size * length)))
