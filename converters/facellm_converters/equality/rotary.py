"""Rotary positions as transformers turns them: the two halves of a head against each other."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from facellm_converters.equality.numbers import Values
from facellm_converters.layouts.specs import RopeScaling, TextSpec

#: YaRN's own numbers where a checkpoint names none (transformers' defaults).
_BETA_FAST, _BETA_SLOW = 32.0, 1.0


def turns(spec: TextSpec, positions: NDArray[np.int64]) -> tuple[Values, Values]:
    """Cosines and sines ``[n, head / 2]`` at ``positions`` ``[n]``."""
    rates = spec.rope_theta ** (-np.arange(0, spec.head_dim, 2, dtype=np.float64) / spec.head_dim)
    size, scaling = 1.0, spec.rope_scaling
    if scaling is not None and scaling.kind == "yarn":
        rates, size = _yarn(spec, scaling, rates)
    elif scaling is not None:
        rates = rates / scaling.factor
    angles = np.outer(positions, rates)
    return (np.cos(angles) * size).astype(np.float32), (np.sin(angles) * size).astype(np.float32)


def turned(x: Values, by: tuple[Values, Values]) -> Values:
    """``x``: ``[n, heads, head]``."""
    cos, sin = (values[:, None, :] for values in by)
    half = x.shape[-1] // 2
    one, other = x[..., :half], x[..., half:]
    return np.concatenate([one * cos - other * sin, other * cos + one * sin], axis=-1)


def _yarn(spec: TextSpec, scaling: RopeScaling, rates: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """YaRN (arXiv 2309.00071): slow turns are slowed further, fast ones kept; and the size of the result."""
    original = scaling.original_context or spec.context

    def dimension(rotations: float) -> float:
        turns_a_radian = original / (rotations * 2 * math.pi)
        return spec.head_dim * math.log(turns_a_radian) / (2 * math.log(spec.rope_theta))

    low = max(math.floor(dimension(scaling.extra.get("beta_fast", _BETA_FAST))), 0)
    high = min(math.ceil(dimension(scaling.extra.get("beta_slow", _BETA_SLOW))), spec.head_dim - 1)
    ramp = np.clip((np.arange(len(rates)) - low) / (high - low if high != low else 0.001), 0, 1)
    usual = 0.1 * math.log(scaling.factor) + 1 if scaling.factor > 1 else 1.0
    return rates * (1 - ramp) + rates / scaling.factor * ramp, scaling.extra.get("attention_factor", usual)
