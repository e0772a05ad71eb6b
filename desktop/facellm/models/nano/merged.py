"""The carriers' weights with what training changed merged in, in float64 and rounded once to float32.

``Lora`` says why that gives the same bytes everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from facellm.core.errors import ModelPartError
from facellm.models.nano import clip_onnx, smollm2
from facellm.models.nano.deltas import Deltas, Lora

#: ``clip.vision.image_std``, which divides a value of 0..1: pixels become value / 64 (see ``raw_kernel``).
PIXEL_STD = 64 / 255


def merged_language(part: smollm2.LanguagePart, deltas: Deltas) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """All tensors of the language part under their GGUF names, in file order; queries and keys in llama.cpp's order.

    Raises ``ModelPartError`` where the deltas do not fit.
    """
    loras = {_language_name(module): lora for module, lora in deltas.loras.items() if module.startswith("language.")}
    _all_known(loras, part.names(), "language model")
    for name in part.names():
        yield name, _merged(part.weight(name), loras.get(name), name, rotary_heads(name))


def merged_tower(tower: clip_onnx.Weights, deltas: Deltas) -> clip_onnx.Weights:
    """The image tower under its own names, matrices of all blocks merged. Raises ``ModelPartError``."""
    loras = {
        f"encoder.{module.removeprefix('tower.')}.weight": lora
        for module, lora in deltas.loras.items()
        if module.startswith("tower.")
    }
    _all_known(loras, list(tower), "image tower")
    return {name: _merged(weight, loras.get(name), name) for name, weight in tower.items()}


def rotary_heads(name: str) -> int:
    """Heads of a query or key matrix, whose rows llama.cpp has in another order; 0 for all others."""
    if name.endswith(".attn_q.weight"):
        return smollm2.HEADS
    return smollm2.KV_HEADS if name.endswith(".attn_k.weight") else 0


def raw_kernel(
    kernel: NDArray[np.float32], mean: tuple[float, ...], std: tuple[float, ...], *, half: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Patch kernel ``[width, 3, side, side]`` for pixels as ``value / 64``, rounded to float16 (``half``) or float32,
    and what the mean then adds to every patch, ``[width]``.

    llama.cpp rounds the normalised picture to float16 before the patch kernel, whatever the kernel's type.
    CLIP amplifies that: the worst token's cosine to PyTorch was 0.9988, all of it from this one rounding.
    ``value / 64`` is exact in float16, so scale and mean move into the kernel and the position table. The
    offset uses the rounded kernel, so that a grey picture of the mean gives what it gives in float32.
    """
    means, stds = (np.array(values, np.float64)[None, :, None, None] for values in (mean, std))
    scaled = (kernel.astype(np.float64) * PIXEL_STD / stds).astype(np.float16 if half else np.float32)
    shares = (scaled.astype(np.float64) * means / PIXEL_STD).reshape(len(scaled), -1)
    offset = np.array([-math.fsum(row) for row in shares])  # exact: numpy's order of summing is the machine's
    return scaled.astype(np.float32), offset.astype(np.float32)


def _language_name(module: str) -> str:
    """``language.layers.3.self_attn.q_proj`` → ``blk.3.attn_q.weight``."""
    _, _, layer, kind = module.split(".", 3)
    return f"blk.{layer}.{smollm2.GGUF_NAME[kind]}.weight"


def _merged(weight: NDArray[np.float32], lora: Lora | None, name: str, heads: int = 0) -> NDArray[np.float32]:
    """``weight`` plus what training changed; ``heads``: the weight's rows are already in llama.cpp's order."""
    if lora is None:
        return weight
    change = lora.change()
    if change.shape != weight.shape:
        raise ModelPartError(f"The deltas change {name} by {change.shape}, but it is {weight.shape}.")
    if heads:
        change = smollm2.permute_rows(change, heads)
    return np.asarray(weight.astype(np.float64) + change, np.float32)


def _all_known(loras: dict[str, Lora], names: list[str], where: str) -> None:
    unknown = sorted(set(loras) - set(names))
    if unknown:
        raise ModelPartError(f"The deltas change parts that the {where} lacks: {', '.join(unknown[:5])}.")
