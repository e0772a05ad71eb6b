"""The ``gguf`` library's writer, with long lists packed at once: one by one, a vocabulary takes long."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from gguf import GGUFValueType, GGUFWriter

_LONG = 64


class Writer(GGUFWriter):
    """Writes the same bytes as its base."""

    def _pack_val(
        self, val: Any, vtype: GGUFValueType, add_vtype: bool, sub_type: GGUFValueType | None = None
    ) -> bytes:
        if vtype == GGUFValueType.ARRAY and add_vtype and len(val) > _LONG:
            packed = _packed(val)
            if packed is not None and sub_type in (None, packed[0]):
                kind, items = packed
                return struct.pack("<IIQ", vtype, kind, len(val)) + items
        return bytes(super()._pack_val(val, vtype, add_vtype, sub_type))


def _packed(values: Sequence[Any]) -> tuple[GGUFValueType, bytes] | None:
    """The items' kind and bytes, little-endian, where all are texts or all are whole numbers (enums among them)."""
    kinds = set(map(type, values))
    if kinds == {str}:
        length = struct.Struct("<Q").pack
        texts = [text.encode() for text in values]
        return GGUFValueType.STRING, b"".join([part for text in texts for part in (length(len(text)), text)])
    if all(issubclass(kind, int) and not issubclass(kind, bool) for kind in kinds):
        return GGUFValueType.INT32, struct.pack(f"<{len(values)}i", *values)
    return None
