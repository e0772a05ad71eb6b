"""How far two answers are apart: image tokens, next-token probabilities, and closed questions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facellm_converters.equality.numbers import Values

Exact = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PictureRow:
    """Of one picture: cosines of its tokens, and the largest error in any number."""

    cosine_mean: float
    cosine_least: float
    largest_error: float


@dataclass(slots=True)
class Positions:
    """Gathered over positions: Kullback-Leibler divergence in nats, and whether the likeliest token is the same."""

    divergences: list[float] = field(default_factory=list)
    same: list[bool] = field(default_factory=list)

    def add(self, right: Values, found: Values) -> None:
        """Logits ``[n, vocabulary]`` of the checkpoint and of the pair.

        Row by row, since 150,000 tokens in float64 are a megabyte each.
        """
        for one, other in zip(right, found, strict=True):
            self.divergences.append(divergence(one, other))
            self.same.append(bool(one.argmax() == other.argmax()))

    @property
    def mean(self) -> float:
        return float(np.mean(self.divergences)) if self.divergences else 0.0

    @property
    def largest(self) -> float:
        return float(np.max(self.divergences)) if self.divergences else 0.0

    @property
    def agreement(self) -> float:
        return float(np.mean(self.same)) if self.same else 1.0

    @classmethod
    def together(cls, parts: Iterable[Positions]) -> Positions:
        """All positions of several."""
        found = cls()
        for part in parts:
            found.divergences += part.divergences
            found.same += part.same
        return found


@dataclass(frozen=True, slots=True)
class ClosedCost:
    """Over closed questions: share with the same letter, and how far a letter's probability moves on average."""

    questions: int
    agreement: float
    shift: float


def picture_row(right: Values, found: Values) -> PictureRow:
    """``[tokens, width]`` of the checkpoint and of the pair."""
    cosine = cosines(right, found)
    return PictureRow(float(cosine.mean()), float(cosine.min()), float(np.abs(right - found).max()))


def cosines(one: Values, other: Values) -> Exact:
    """Of each token ``[n, width]``: ``[n]``."""
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return np.asarray((one * other).sum(-1) / np.maximum(lengths, 1e-12), np.float64)


def divergence(right: Values, found: Values) -> float:
    """Kullback-Leibler divergence in nats of the probabilities ``right`` ‖ ``found``, given as logits ``[n]``."""
    p, q = log_softmax(right), log_softmax(found)
    return max(0.0, float((np.exp(p) * (p - q)).sum())) if np.isfinite(found).all() else float("inf")


def closed_cost(checkpoint_logits: Values, gguf_logits: Values, letters: Sequence[Sequence[int]]) -> ClosedCost:
    """What closed questions lose: logits ``[questions, vocabulary]``, and each one's options' token ids.

    Both are restricted to the options, as the engine restricts an answer.
    """
    same, shift = [], []
    for right, found, keys in zip(checkpoint_logits, gguf_logits, letters, strict=True):
        one, other = (np.exp(log_softmax(row[list(keys)])) for row in (right, found))
        same.append(bool(one.argmax() == other.argmax()))
        shift.append(float(np.abs(one - other).mean()))
    if not same:
        return ClosedCost(0, 1.0, 0.0)
    return ClosedCost(len(same), float(np.mean(same)), float(np.mean(shift)))


def log_softmax(logits: Values) -> Exact:
    """In float64, over the last axis."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
