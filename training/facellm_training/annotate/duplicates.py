"""Near duplicates among many texts: MinHash finds candidates, the exact Jaccard index decides."""

from __future__ import annotations

import re
import zlib
from collections import defaultdict

import numpy as np

#: 16 bands of 4 hashes: a pair with Jaccard 0.7 becomes a candidate in 98.8 % of cases, one with 0.3 in 12 %.
_BANDS, _ROWS = 16, 4
_PRIME = np.uint64((1 << 31) - 1)


def shingles(text: str, size: int = 3) -> frozenset[int]:
    """Hashes of all runs of ``size`` words; of a shorter text, of all its words as one run."""
    words = re.findall(r"\w+", text.lower())
    runs = (" ".join(words[i : i + size]) for i in range(max(1, len(words) - size + 1)))
    return frozenset(zlib.crc32(run.encode()) for run in runs)


class NearDuplicates:
    """Remembers texts; tells whether a new one is nearly one of them. Deterministic."""

    def __init__(self, similar: float) -> None:
        """``similar``: Jaccard index of three-word runs, 0 to 1, from which two texts count as the same."""
        self._similar = similar
        rng = np.random.default_rng(0)
        self._a = rng.integers(1, int(_PRIME), _BANDS * _ROWS, dtype=np.uint64)
        self._b = rng.integers(0, int(_PRIME), _BANDS * _ROWS, dtype=np.uint64)
        self._texts: list[frozenset[int]] = []
        self._buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)

    def seen(self, text: str) -> bool:
        """Whether something like it was there before; if not, it is remembered."""
        runs = shingles(text)
        keys = self._keys(runs)
        candidates = {index for key in keys for index in self._buckets.get(key, ())}
        for index in candidates:
            other = self._texts[index]
            if len(runs & other) >= self._similar * len(runs | other):
                return True
        self._texts.append(runs)
        for key in keys:
            self._buckets[key].append(len(self._texts) - 1)
        return False

    def _keys(self, runs: frozenset[int]) -> list[tuple[int, bytes]]:
        values = np.fromiter(runs, np.uint64, len(runs)) % _PRIME
        least = ((values[:, None] * self._a + self._b) % _PRIME).min(axis=0)
        return [(band, least[band * _ROWS : (band + 1) * _ROWS].tobytes()) for band in range(_BANDS)]
