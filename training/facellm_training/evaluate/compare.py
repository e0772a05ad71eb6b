"""Models against each other on the same items: difference with its interval, and whether it may be chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from facellm_training.evaluate.metrics import mean_score
from facellm_training.evaluate.tables import Table

#: Title of the table of comparisons.
COMPARED = "Between models"


@dataclass(frozen=True, slots=True)
class Comparison:
    """``difference``: accuracy of the second minus the first, with its 95 % paired bootstrap interval.

    ``only_first``, ``only_second``: items that one alone has right. ``p``: McNemar's exact test on those two numbers.
    """

    first: str
    second: str
    difference: float
    low: float
    high: float
    only_first: int
    only_second: int
    p: float
    n: int


def compare(first: str, second: str, right_first: NDArray[np.float64], right_second: NDArray[np.float64]) -> Comparison:
    """``right_*``: 1 or 0 for each of the same items, in the same order."""
    score = mean_score(right_second - right_first)
    only_first = int(((right_first == 1) & (right_second == 0)).sum())
    only_second = int(((right_first == 0) & (right_second == 1)).sum())
    apart = only_first + only_second
    p = float(binomtest(only_second, apart, 0.5).pvalue) if apart else 1.0
    return Comparison(first, second, score.value, score.low, score.high, only_first, only_second, p, score.n)


def compare_all(right: Mapping[str, NDArray[np.float64]]) -> list[dict[str, Any]]:
    """Every pair of models."""
    return [asdict(compare(a, b, right[a], right[b])) for a, b in combinations(right, 2)]


def comparison_table(rows: list[dict[str, Any]], about: str) -> Table:
    """``about``: the field of each row, besides a comparison's, that says what is compared."""
    header = [about, "first", "second", "difference, points [95 %]", "only first right", "only second right", "p"]
    shown = []
    for row in rows:
        points = f"{100 * row['difference']:+.1f} [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"
        alone = [str(row["only_first"]), str(row["only_second"])]
        shown.append([row[about], row["first"], row["second"], points, *alone, f"{row['p']:.3g}"])
    note = (
        "Second minus first on the same items, paired bootstrap; p of McNemar's exact test, not corrected for how many "
        "there are."
    )
    return Table(COMPARED, header, shown, note)
