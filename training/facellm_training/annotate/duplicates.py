"""Near duplicates among many texts: MinHash finds candidates, the exact Jaccard index decides."""

from __future__ import annotations

import math
import re
import zlib
from array import array
from collections import defaultdict

import numpy as np

#: With the rows that ``_rows`` gives, a pair at the limit becomes a candidate in about 99 % of cases.
_BANDS, _FOUND = 10, 0.35
_MOST_ROWS = 16
_PRIME = np.uint64((1 << 31) - 1)
#: Texts that one bucket remembers. Thousands share one where a teacher writes by a pattern; comparing all of them would
#: take time that grows with the square of the pictures.
_BUCKET = 32


def shingles(text: str, size: int = 3) -> frozenset[int]:
    """Hashes of all runs of ``size`` words; of a shorter text, of all its words as one run."""
    words = re.findall(r"\w+", text.lower())
    runs = (" ".join(words[i : i + size]) for i in range(max(1, len(words) - size + 1)))
    return frozenset(zlib.crc32(run.encode()) for run in runs)


def _rows(similar: float) -> int:
    """Hashes of a band, so that texts less alike than ``similar`` are seldom compared."""
    return min(_MOST_ROWS, max(1, round(math.log(_FOUND) / math.log(similar)))) if similar < 1 else _MOST_ROWS


class NearDuplicates:
    """Counts texts that are nearly the same. Deterministic; time and memory grow with the number of texts."""

    def __init__(self, similar: float, most: int = 1) -> None:
        """``similar``: Jaccard index of three-word runs, above 0 to 1, from which two texts count as the same;
        ``most``: so many of the same are wanted."""
        self._similar, self._most, self._rows = similar, most, _rows(similar)
        rng = np.random.default_rng(0)
        self._a = rng.integers(1, int(_PRIME), _BANDS * self._rows, dtype=np.uint64)
        self._b = rng.integers(0, int(_PRIME), _BANDS * self._rows, dtype=np.uint64)
        self._texts: list[array[int]] = []
        self._counts: list[int] = []
        #: Hash of all runs → the text: the same words again are found without comparing.
        self._exact: dict[int, int] = {}
        self._buckets: defaultdict[int, list[int]] = defaultdict(list)

    def seen(self, text: str) -> bool:
        """Whether ``most`` texts like it were there before; if not, it is counted."""
        runs = shingles(text)
        exact = hash(runs)
        found = self._exact.get(exact)
        if found is None:
            keys = self._keys(runs)
            found = self._like(runs, keys)
            if found is None:
                found = self._add(runs, keys)
            self._exact[exact] = found
        self._counts[found] += 1
        return self._counts[found] > self._most

    def _like(self, runs: frozenset[int], keys: list[int]) -> int | None:
        """The first text that is nearly the same."""
        candidates = {index for key in keys for index in self._buckets.get(key, ())}
        for index in sorted(candidates):
            other = self._texts[index]
            both = len(runs.intersection(other))
            if both >= self._similar * (len(runs) + len(other) - both):
                return index
        return None

    def _add(self, runs: frozenset[int], keys: list[int]) -> int:
        self._texts.append(array("I", sorted(runs)))
        self._counts.append(0)
        new = len(self._texts) - 1
        for key in keys:
            bucket = self._buckets[key]
            bucket.append(new)
            del bucket[:-_BUCKET]
        return new

    def _keys(self, runs: frozenset[int]) -> list[int]:
        values = np.fromiter(runs, np.uint64, len(runs)) % _PRIME
        least = ((values[:, None] * self._a + self._b) % _PRIME).min(axis=0).reshape(_BANDS, self._rows)
        return [hash((band, *row)) for band, row in enumerate(least.tolist())]
