"""Rows of conversations as the tensors of one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facellm_training.lora.images import Tile
from facellm_training.lora.template import SILENT, Ids


@dataclass(slots=True)
class Batch:
    """``input_ids`` and ``position_ids`` ``[B, T]``; ``attention_mask`` ``[B, T]``, or none for packed rows, where
    positions that begin anew part the conversations; ``pixels`` uint8 ``[P, side, side, 3]``; ``keep`` ``[K]``: the
    places that predict something, ``targets`` ``[B, K]``: what, ``SILENT`` where nothing."""

    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor | None
    pixels: Tensor
    keep: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> Batch:
        """On another device; copies from pinned memory overlap with what it computes."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        moved = {key: value if value is None else value.to(device, non_blocking=True) for key, value in values.items()}
        return Batch(**moved)

    def pin_memory(self) -> Batch:
        """As PyTorch's loader asks for it."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return Batch(**{key: value if value is None else value.pin_memory() for key, value in values.items()})

    @property
    def tokens(self) -> int:
        """Without padding."""
        return int(self.attention_mask.sum()) if self.attention_mask is not None else self.input_ids.numel()


Sequences = Sequence[tuple[Ids, Ids]]


def packed(sequences: Sequences, tiles: Sequence[Tile], *, fill: int = 0, pad: int = 0) -> Batch:
    """One row, one (ids, labels) after the other. ``fill``: pad it up to so many tokens, for a compiled model; the
    padding is a conversation of its own, so that nothing sees it."""
    ids = np.concatenate([ids for ids, _ in sequences])
    places = np.concatenate([np.arange(len(ids)) for ids, _ in sequences])
    targets = np.concatenate([_shifted(labels) for _, labels in sequences])
    lacking = fill - len(ids)
    if lacking > 0:
        ids = np.concatenate([ids, np.full(lacking, pad)])
        places = np.concatenate([places, np.arange(lacking)])
        targets = np.concatenate([targets, np.full(lacking, SILENT)])
    return _batch(ids[None], places[None], None, targets[None], tiles)


def padded(sequences: Sequences, tiles: Sequence[Tile], *, pad: int) -> Batch:
    """One row a conversation, padded on the right with the token ``pad``."""
    size = (len(sequences), max(len(ids) for ids, _ in sequences))
    ids, targets = np.full(size, pad), np.full(size, SILENT)
    mask, places = np.zeros(size, np.int64), np.zeros(size, np.int64)
    for row, (one, labels) in enumerate(sequences):
        ids[row, : len(one)], targets[row, : len(one)] = one, _shifted(labels)
        mask[row, : len(one)], places[row, : len(one)] = 1, np.arange(len(one))
    return _batch(ids, places, mask, targets, tiles)


def _shifted(labels: Ids) -> Ids:
    """What each place predicts: the next token; the last place nothing, so that no conversation predicts another."""
    return np.append(labels[1:], SILENT)


def _batch(
    ids: NDArray[np.integer], places: NDArray[np.integer], mask: NDArray[np.int64] | None,
    targets: NDArray[np.integer], tiles: Sequence[Tile],
) -> Batch:  # fmt: skip
    keep = np.flatnonzero((targets != SILENT).any(0))
    return Batch(
        _long(ids), _long(places), None if mask is None else _long(mask),
        torch.from_numpy(np.stack(tiles)), _long(keep), _long(targets[:, keep]),
    )  # fmt: skip


def _long(values: NDArray[np.integer]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64))
