"""Scores with intervals: accuracy, macro-F1, calibration, gaps between groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Resamples of the bootstrap; 2,000 give the bounds to about a tenth of a point.
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Score:
    """A mean with its 95 % bootstrap interval, all 0..1."""

    value: float
    low: float
    high: float
    n: int

    def percent(self) -> str:
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def bootstrap(statistic: Callable[[NDArray[np.intp]], float], n: int, seed: int = 0) -> Score:
    """Percentile bootstrap of ``statistic(indices)`` over ``n`` items."""
    rng = np.random.default_rng(seed)
    draws = [statistic(rng.integers(0, n, n)) for _ in range(RESAMPLES)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return Score(statistic(np.arange(n)), float(low), float(high), n)


def mean_score(values: NDArray[np.float64]) -> Score:
    """Mean of 0/1 (or other) values with its interval."""
    return bootstrap(lambda rows: float(values[rows].mean()), len(values))


def macro_f1(truth: NDArray[np.int64], found: NDArray[np.int64], classes: int) -> Score:
    """Unweighted mean of the classes' F1; classes absent from both sides of a resample are left out."""
    pairs = truth * classes + found

    def statistic(rows: NDArray[np.intp]) -> float:
        table = np.bincount(pairs[rows], minlength=classes * classes).reshape(classes, classes)
        hits, total = np.diag(table), table.sum(0) + table.sum(1)
        return float(np.mean(2 * hits[total > 0] / total[total > 0]))

    return bootstrap(statistic, len(truth))


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.float64], bins: int = 15) -> float:
    """Expected calibration error over equal-width bins (Guo et al. 2017), 0..1."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    error = 0.0
    for index in range(bins):
        inside = place == index
        if inside.any():
            error += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    return float(error)


def with_temperature(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Sharpen (< 1) or soften (> 1) rows of probabilities ``[n, classes]``."""
    logits = np.log(np.clip(probabilities, 1e-12, 1)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    scaled = np.exp(logits)
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))


def group_gap(right: NDArray[np.float64], group: NDArray[np.int64], names: tuple[str, ...]) -> dict[str, object]:
    """Accuracy per group and the distance between best and worst, in points of 1."""
    rates = {name: float(right[group == i].mean()) for i, name in enumerate(names) if (group == i).any()}
    counts = {name: int((group == i).sum()) for i, name in enumerate(names)}
    return {"accuracy": rates, "n": counts, "gap": max(rates.values()) - min(rates.values())}


def reliability(
    confidence: NDArray[np.float64], right: NDArray[np.float64], bins: int = 10
) -> list[tuple[float, float, int]]:
    """(mean confidence, accuracy, number) of each equal-width bin that holds something."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    inside = [place == index for index in range(bins)]
    return [(float(confidence[at].mean()), float(right[at].mean()), int(at.sum())) for at in inside if at.any()]
