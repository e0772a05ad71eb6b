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
    positions that begin anew part the conversations; ``pixels`` uint8 ``[P, side, side, 3]``, in the rows' order;
    ``loud`` bool ``[B, T]``: the places that predict something, ``targets`` ``[N]``: what, row by row."""

    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor | None
    pixels: Tensor
    loud: Tensor
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


Sequences = Sequence[tuple[Ids, Ids]]


def packed(rows: Sequence[Sequences], tiles: Sequence[Tile], *, pad: int = 0, fill: int = 0) -> Batch:
    """Rows of (ids, labels), in each one after the other. Shorter rows are padded, and all up to ``fill`` tokens, for
    a compiled model; the padding is a conversation of its own, so that nothing sees it."""
    length = max(fill, *(sum(len(ids) for ids, _ in row) for row in rows))
    size = (len(rows), length)
    ids, places, targets = np.full(size, pad), np.zeros(size, np.int64), np.full(size, SILENT)
    for number, row in enumerate(rows):
        start = 0
        for one, labels in row:
            span = slice(start, start + len(one))
            ids[number, span], targets[number, span] = one, _shifted(labels)
            places[number, span] = np.arange(len(one))
            start += len(one)
        places[number, start:] = np.arange(length - start)
    return _batch(ids, places, None, targets, tiles)


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
    loud = targets != SILENT
    return Batch(
        _long(ids), _long(places), None if mask is None else _long(mask), torch.from_numpy(np.stack(tiles)),
        torch.from_numpy(loud), _long(targets[loud]),
    )  # fmt: skip


def _long(values: NDArray[np.integer]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64))
