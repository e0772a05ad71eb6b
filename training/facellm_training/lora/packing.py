"""Which conversations a step takes, and how they are laid into rows. Everything follows from the seed and the lengths.

The conversations of a step never depend on packing or on the number of devices; only the rows do. So a run on one
device and one on eight take the same steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

#: Indices of conversations, one after the other; rows that go through the model together.
Row = tuple[int, ...]
Pass = tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """The conversations of every step, in a fresh random order each epoch."""

    count: int
    batch: int
    epochs: float
    seed: int

    @property
    def steps(self) -> int:
        """The last one may be smaller."""
        return math.ceil(self._total / self.batch)

    @property
    def _total(self) -> int:
        return max(1, round(self.count * self.epochs))

    def step(self, number: int) -> Row:
        """Of step ``number``, from 0."""
        places = range(number * self.batch, min((number + 1) * self.batch, self._total))
        found = []
        for place in places:
            epoch, within = divmod(place, self.count)
            found.append(int(_permutation(self.count, self.seed, epoch)[within]))
        return tuple(found)


@lru_cache(maxsize=2)  # else the plan of a long run takes time that grows with the square of the conversations
def _permutation(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)


def pack(chosen: Sequence[int], lengths: Sequence[int], room: int) -> list[Row]:
    """Rows of at most ``room`` tokens: the longest first, each into the first row that has room (first-fit
    decreasing: at most 11/9 of the fewest rows possible). ``lengths`` by conversation."""
    rows: list[list[int]] = []
    left: list[int] = []
    for index in sorted(chosen, key=lambda one: (-lengths[one], one)):
        fitting = next((row for row, free in enumerate(left) if free >= lengths[index]), None)
        if fitting is None:
            rows.append([])
            left.append(room)
            fitting = len(rows) - 1
        rows[fitting].append(index)
        left[fitting] -= lengths[index]
    return [tuple(row) for row in rows]


def together(rows: Sequence[Row], count: int) -> list[Pass]:
    """``count`` rows a pass."""
    return [tuple(rows[start : start + count]) for start in range(0, len(rows), count)]


def alone(chosen: Sequence[int], lengths: Sequence[int]) -> list[Row]:
    """Without packing: one conversation a row, those of similar lengths beside each other, to pad little."""
    return [(one,) for one in sorted(chosen, key=lambda one: (-lengths[one], one))]


def share(passes: Sequence[Pass], devices: int, device: int) -> list[tuple[Pass, bool]]:
    """The passes of one of several devices and whether each counts. All get equally many, because sharded devices
    wait for each other in every pass: where passes are lacking, one is repeated and does not count."""
    each = math.ceil(len(passes) / devices)
    places = range(device, each * devices, devices)
    return [(passes[place % len(passes)], place < len(passes)) for place in places]
