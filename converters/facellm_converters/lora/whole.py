"""A weight that an adapter brings along whole: often a table of billions of bytes, so that it stays in its file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facellm_converters.checkpoint.tensors import KINDS, Tensors, as_float32

#: Values that are read at once where all of them are looked at.
_VALUES = 1 << 20


@dataclass(frozen=True, slots=True)
class Whole:
    """``offset``: bytes before it in ``file``; ``kind``: one of ``KINDS``."""

    file: Path
    offset: int
    shape: tuple[int, ...]
    kind: str

    def rows(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Rows ``start:stop`` along the first dimension, the caller's own."""
        if not self.shape:
            start, stop = 0, 1
        count = self.shape[0] if self.shape else 1
        stop = count if stop is None else min(stop, count)
        size, kind = self._row, KINDS[self.kind]
        # Not through a map, whose pages would count as this process's memory.
        found = np.fromfile(self.file, kind, size * (stop - start), offset=self.offset + start * size * kind.itemsize)
        return as_float32(found, self.kind).reshape((stop - start, *self.shape[1:]) if self.shape else ())

    def part(self, start: int, stop: int) -> Whole:
        """Rows ``start:stop`` as a weight of their own."""
        skipped = start * self._row * KINDS[self.kind].itemsize
        return replace(self, offset=self.offset + skipped, shape=(stop - start, *self.shape[1:]))

    def pieces(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """All of it in pieces, each with its first row."""
        step = max(1, _VALUES // max(1, self._row))
        for start in range(0, self.shape[0] if self.shape else 1, step):
            yield start, self.rows(start, start + step)

    @property
    def _row(self) -> int:
        return int(np.prod(self.shape[1:], dtype=np.int64))


def whole(tensors: Tensors, name: str) -> Whole:
    """The tensor of that name. Raises ``BadCheckpoint`` for a kind that is not converted."""
    tensors.raw(name, 0, 0)
    info = tensors.infos[name]
    return Whole(tensors.folder / info.file, tensors.offset(name), info.shape, info.kind)
