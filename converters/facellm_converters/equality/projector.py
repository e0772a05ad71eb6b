"""From patches to what the language part is given: pixel shuffle and projector."""

from __future__ import annotations

import numpy as np

from facellm_converters.equality.numbers import Values, activate, layer_norm, linear, rms_norm
from facellm_converters.layouts.checkpoint import Checkpoint

#: PyTorch's default in InternVL's projector, and what the nano's was trained with.
_INTERN_EPS, _NANO_EPS = 1e-5, 1e-6


def projected(checkpoint: Checkpoint, x: Values) -> Values:
    """Patches ``[pictures, patches, width]``, row by row without a class token: ``[pictures, tokens, width]``."""
    start = "multi_modal_projector."

    def read(name: str) -> Values:
        return checkpoint.read(start + name)

    x = shuffled(x, checkpoint.vision.shuffle)
    if checkpoint.kind == "nano":
        inner = linear(rms_norm(x, read("norm.weight"), _NANO_EPS), read("fc1.weight"))
        return linear(np.square(np.maximum(inner, 0)), read("fc2.weight"))
    if checkpoint.kind == "internvl":
        x = layer_norm(x, read("layer_norm.weight"), read("layer_norm.bias"), _INTERN_EPS)
    inner = activate(linear(x, read("linear_1.weight"), read("linear_1.bias")), "gelu")
    return linear(inner, read("linear_2.weight"), read("linear_2.bias"))


def shuffled(x: Values, factor: int) -> Values:
    """``factor``×``factor`` neighbouring patches become one token's channels, in the order row, column, channel."""
    pictures, count, width = x.shape
    small = int(count**0.5) // factor
    grid = x.reshape(pictures, small, factor, small, factor, width).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(grid).reshape(pictures, small * small, factor * factor * width)
