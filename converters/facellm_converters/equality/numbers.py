"""What both parts of a model compute with, in float32 as PyTorch does."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]

#: Steps of the error function's table: with one in 256 the two terms around the nearest are off by 5e-9 at most.
_STEPS = 256
#: From here on the error function is 1 in float32.
_END = 6
#: Numbers whose error function is computed at once, so that what float64 needs stays in a cache.
_PIECE = 1 << 16


def linear(x: Values, weight: Values, bias: Values | None = None) -> Values:
    """``[…, in]`` by ``[out, in]``: ``[…, out]``."""
    found: Values = x @ weight.T
    if bias is not None:
        found += bias
    return found


def layer_norm(x: Values, weight: Values, bias: Values, eps: float) -> Values:
    """Over the last axis."""
    centred: Values = x - x.mean(-1, keepdims=True)
    centred /= np.sqrt((centred * centred).mean(-1, keepdims=True) + np.float32(eps))
    centred *= weight
    centred += bias
    return centred


def rms_norm(x: Values, weight: Values, eps: float) -> Values:
    """Over the last axis."""
    found: Values = x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(eps))
    found *= weight
    return found


def activate(x: Values, name: str) -> Values:
    """``gelu`` is the exact one, not tanh's; ``quick_gelu`` and ``silu``. In place."""
    if name == "gelu":
        for piece in _pieces(x):
            piece *= np.float32(0.5) * (1 + erf(piece * np.float32(0.5**0.5)))
        return x
    with np.errstate(over="ignore"):  # far below zero: the result is zero all the same
        x /= 1 + np.exp(np.float32(-1.702 if name == "quick_gelu" else -1.0) * x)
    return x


def _pieces(x: Values) -> list[Values]:
    assert x.flags.c_contiguous  # else reshape copies, and what is written into the pieces is lost
    flat = x.reshape(-1)
    return [flat[start : start + _PIECE] for start in range(0, flat.size, _PIECE)]


def erf(x: Values) -> Values:
    """The error function, off by less than 1e-7: numpy has none."""
    values, slopes = _table()
    exact = np.clip(x.astype(np.float64), -_END, _END)
    index = np.rint(np.nan_to_num(exact) * _STEPS).astype(np.int64)  # NaN comes back from the last line
    near = index / _STEPS
    index += _END * _STEPS
    exact -= near  # erf(n + d) = erf(n) + erf'(n) · (d - n·d² + …)
    found: Values = (values[index] + slopes[index] * exact * (1 - near * exact)).astype(np.float32)
    return found


@cache
def _table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    places = np.arange(-_END * _STEPS, _END * _STEPS + 1) / _STEPS
    return np.array([math.erf(place) for place in places]), 2 / math.sqrt(math.pi) * np.exp(-places * places)


def softmax(x: Values) -> Values:
    """Over the last axis, in place."""
    x -= x.max(-1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(-1, keepdims=True)
    return x
