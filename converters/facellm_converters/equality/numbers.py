"""What both parts of a model compute with, in float32 as PyTorch does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]

#: Rational approximation 7.1.26 of the error function (Abramowitz and Stegun): off by 1.5e-7 at most, below float32's
#: own steps after the product with x.
_ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
_ERF_P = 0.3275911


def linear(x: Values, weight: Values, bias: Values | None = None) -> Values:
    """``[n, in]`` by ``[out, in]``: ``[n, out]``."""
    found = x @ weight.T
    if bias is not None:
        found += bias
    return found


def layer_norm(x: Values, weight: Values, bias: Values, eps: float) -> Values:
    """Over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    centred /= np.sqrt((centred * centred).mean(-1, keepdims=True) + np.float32(eps))
    found: Values = centred * weight + bias
    return found


def rms_norm(x: Values, weight: Values, eps: float) -> Values:
    """Over the last axis."""
    found: Values = x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(eps)) * weight
    return found


def activate(x: Values, name: str) -> Values:
    """``gelu`` is the exact one, not tanh's."""
    found: Values
    if name == "quick_gelu":
        found = x / (1 + np.exp(np.float32(-1.702) * x))
    elif name == "silu":
        found = x / (1 + np.exp(-x))
    else:
        found = np.float32(0.5) * x * (1 + _erf(x * np.float32(0.5**0.5)))
    return found


def _erf(x: Values) -> Values:
    size = np.abs(x)
    t = 1 / (1 + np.float32(_ERF_P) * size)
    series = np.zeros_like(t)
    for factor in reversed(_ERF):
        series = (series + np.float32(factor)) * t
    found: Values = np.sign(x) * (1 - series * np.exp(-size * size))
    return found


def softmax(x: Values) -> Values:
    """Over the last axis, in place."""
    x -= x.max(-1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(-1, keepdims=True)
    return x
