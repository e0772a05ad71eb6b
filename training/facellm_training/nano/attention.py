"""Attention as plain matrix products, which ``torch.compile`` joins with what stands around them.

PyTorch's own attention for the CPU took a third of a training step here; written out and compiled,
the products run on the processor's matrix units (measured with ``benchmarks/training.py``).
"""

from __future__ import annotations

import torch
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention; several query heads may share one key head.

    ``q [batch, heads, T, d]``; ``k``, ``v [batch, groups, S, d]``, ``heads`` a multiple of ``groups``;
    ``mask [batch, 1, T, S]`` is added to the scores. Returns ``[batch, heads, T, d]`` in ``v``'s type.
    """
    batch, heads, length, width = q.shape
    groups, seen = k.shape[1], k.shape[2]
    shared = heads // groups
    scores = q.reshape(batch, groups, shared * length, width) @ k.transpose(-1, -2)
    scores = scores.view(batch, groups, shared, length, seen).float() * width**-0.5
    if mask is not None:
        scores = scores + mask[:, None]
    weight = scores.softmax(-1).to(v.dtype).view(batch, groups, shared * length, seen)
    return (weight @ v).view(batch, heads, length, width)


def additive(seen: Tensor) -> Tensor:
    """A mask of booleans (true: seen) as what is added to scores, float32."""
    return torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, -1e4)
