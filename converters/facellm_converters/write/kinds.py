"""How weights are stored in a GGUF, and the change of numbers to that, piece by piece."""

from __future__ import annotations

from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants
from numpy.typing import NDArray

from facellm_converters.errors import BadCheckpoint

F32, F16 = GGMLQuantizationType.F32, GGMLQuantizationType.F16
BF16, Q8_0 = GGMLQuantizationType.BF16, GGMLQuantizationType.Q8_0

#: Largest number that float16 holds.
F16_MAX = 65504.0

#: Stored kinds whose bytes can be taken over as they are.
_SAME = {"F32": F32, "F16": F16, "BF16": BF16}
_EXPONENT = {"F32": (np.uint32, 0x7F800000), "F16": (np.uint16, 0x7C00), "BF16": (np.uint16, 0x7F80)}


def fitting(kind: GGMLQuantizationType, shape: tuple[int, ...]) -> GGMLQuantizationType:
    """``kind``, or float16 where rows are no whole number of its blocks (as llama.cpp's own converter does)."""
    block, _ = GGML_QUANT_SIZES[kind]
    return kind if shape[-1] % block == 0 else F16


def stored_bytes(kind: GGMLQuantizationType, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor."""
    block, size = GGML_QUANT_SIZES[kind]
    return int(np.prod(shape, dtype=np.int64)) // block * size


def same_bytes(values: NDArray[Any], stored: str, kind: GGMLQuantizationType, name: str) -> NDArray[Any] | None:
    """``values`` themselves where they are stored in the wanted kind already, once they are known to be numbers."""
    if _SAME.get(stored) != kind:
        return None
    if _has_no_number(values, stored):
        raise _no_number(name)
    return values


def encode(values: NDArray[np.float32], kind: GGMLQuantizationType, name: str) -> NDArray[Any]:
    """Numbers in the wanted kind; ``values`` may be used up.

    Raises ``BadCheckpoint`` for NaN, infinity, and what float16 cannot hold.
    """
    if kind == Q8_0:
        return _q8_0(np.ascontiguousarray(values), name)
    if kind == F16:
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if _has_no_number(half, "F16"):
            _check_range(values, name)
        return half
    if _has_no_number(np.ascontiguousarray(values), "F32"):
        raise _no_number(name)
    return np.asarray(quants.quantize(np.ascontiguousarray(values), kind))


def _q8_0(values: NDArray[np.float32], name: str) -> NDArray[np.uint8]:
    """ggml's reference bit for bit, as ``gguf.quants`` has it, but in place: 2.3 times as fast on one core.

    Blocks of 32: a float16 scale, then int8 of value / (largest / 127), halves rounded away from zero.
    """
    blocks = values.reshape(-1, 32)
    rounded = np.abs(blocks)
    largest = np.maximum(rounded[:, :16], rounded[:, 16:])
    for half in (8, 4, 2, 1):
        largest = np.maximum(largest[:, :half], largest[:, half:])
    if not np.isfinite(largest.max(initial=0.0)):
        raise _no_number(name)
    scale = largest / np.float32(127)
    with np.errstate(divide="ignore"):
        blocks *= np.where(scale == 0, np.float32(0), np.float32(1) / scale)
    np.rint(blocks, out=rounded)
    blocks -= rounded
    _halves_away(blocks.reshape(-1), rounded.reshape(-1))
    out = np.empty((len(blocks), 34), np.uint8)
    out[:, :2] = scale.astype(np.float16).view(np.uint8)
    np.copyto(out[:, 2:].view(np.int8), rounded, casting="unsafe")
    return out.reshape(*values.shape[:-1], -1)


def _halves_away(rest: NDArray[np.float32], rounded: NDArray[np.float32]) -> None:
    """``rounded`` went to even at a rest of exactly one half: there it goes away from zero instead."""
    places = np.flatnonzero(np.abs(rest) == np.float32(0.5))
    if places.size:
        left, near = rest[places], rounded[places]
        rounded[places] = near + ((left > 0) & (near >= 0)) - ((left < 0) & (near <= 0))


def _has_no_number(values: NDArray[Any], stored: str) -> bool:
    bits, exponent = _EXPONENT[stored]
    return bool(((values.view(bits) & bits(exponent)) == exponent).any())


def _check_range(values: NDArray[np.float32], name: str) -> None:
    top = float(np.abs(values).max())
    if not np.isfinite(top):
        raise _no_number(name)
    raise BadCheckpoint(f"{name} holds {top:.4g}, beyond float16's {F16_MAX:g}.", "Use --quant BF16 or Q8_0 instead.")


def _no_number(name: str) -> BadCheckpoint:
    return BadCheckpoint(
        f"{name} holds values that are not numbers (NaN or infinity).",
        "Its training diverged: use an earlier checkpoint.",
    )
