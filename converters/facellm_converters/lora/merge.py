"""A checkpoint's tensors with an adapter merged in, row by row as they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellm_converters.checkpoint.tensors import MERGED, TensorInfo, TensorSource, some
from facellm_converters.errors import BadCheckpoint
from facellm_converters.layouts import names as naming
from facellm_converters.layouts.checkpoint import Merge
from facellm_converters.layouts.names import Stored
from facellm_converters.layouts.specs import Config
from facellm_converters.lora.adapter import Adapter, Lora, Matrix
from facellm_converters.lora.whole import Whole

_HEAD, _TABLE = "lm_head.weight", "language_model.embed_tokens.weight"


def merging(adapter: Adapter) -> Merge:
    """What :func:`open_checkpoint` takes. Raises ``BadCheckpoint`` where anything of the adapter would be left out."""

    def merge(tensors: TensorSource, config: Config) -> TensorSource:
        return Merged(tensors, config, adapter)

    return merge


@dataclass(frozen=True, slots=True)
class _Change:
    """Rows ``start:stop`` of a tensor: something is added to them, or they are replaced."""

    start: int
    stop: int
    by: Lora | Whole

    def apply(self, values: Matrix, first: int) -> None:
        """To a tensor's rows ``first:``."""
        begin, end = max(self.start, first), min(self.stop, first + len(values))
        if begin >= end:
            return
        into, rows = slice(begin - first, end - first), (begin - self.start, end - self.start)
        if isinstance(self.by, Lora):
            values[into] += self.by.rows(*rows)
        else:
            values[into] = self.by.rows(*rows)


class Merged:
    """A :class:`TensorSource`; touched weights exist as float32 only.

    A tied head stays what it was when the table alone is changed: so it was while the adapter was trained. (PEFT's own
    merge changes both then.) From then on it is a tensor of its own, as one that was trained whole is.
    """

    def __init__(self, base: TensorSource, config: Config, adapter: Adapter) -> None:
        self._base = base
        own = "InternVLChatModel" in (config.get("architectures") or ())
        self._stored = naming.own(base.infos) if own else naming.shared(base.infos)
        self._changes: dict[str, list[_Change]] = {}
        self._whole: dict[str, Whole] = {}
        self._head: str | None = None  # the tensor that the head's values are, where it was the table
        self.infos: dict[str, TensorInfo] = dict(base.infos)
        tied = _HEAD not in self._stored or _is_tied(config, own)
        self._check_used(adapter, tied)
        for name, values in adapter.saved.items():
            if name == _HEAD and tied:
                self._give_head(values, adapter)
            else:
                self._change(name, values, adapter)
        for name, lora in adapter.loras.items():
            self._change(name, lora, adapter)
        if tied and _HEAD not in adapter.saved and self._touches(_TABLE):
            self._keep_head()

    def read(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        if name == _HEAD and self._head is not None:
            return self._base.read(self._head, start, stop)
        whole = self._whole.get(name)
        values = self._base.read(name, start, stop) if whole is None else whole.rows(start, stop)
        for change in self._changes.get(name, ()):
            change.apply(values, start)
        return values

    def raw(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any] | None:
        if name == _HEAD and self._head is not None:
            return self._base.raw(self._head, start, stop)
        if name in self._changes or name in self._whole:
            return None
        return self._base.raw(name, start, stop)

    def release(self) -> None:
        self._base.release()

    def _check_used(self, adapter: Adapter, tied: bool) -> None:
        if tied and _HEAD in adapter.loras:
            raise BadCheckpoint(
                "The adapter changes lm_head, but this checkpoint's head is its embedding table, which would change "
                "too.",
                "Train lm_head whole (modules_to_save), or on a base with a head of its own.",
            )
        names = [*adapter.loras, *adapter.saved]
        unused = sorted({name for name in names if not self._has(name, adapter) and not (name == _HEAD and tied)})
        if unused or (tied and _HEAD in adapter.saved and _TABLE not in self._stored):
            raise BadCheckpoint(_unused(unused or [_HEAD], len(set(names))), "Was it made for another base?")

    def _has(self, name: str, adapter: Adapter) -> bool:
        parts = list(_parts(name, _shape(name, adapter)))
        return bool(parts) and all(part in self._stored for part, _ in parts)

    def _touches(self, name: str) -> bool:
        return self._stored[name].name in self._changes or self._stored[name].name in self._whole

    def _change(self, name: str, by: Lora | Whole, adapter: Adapter) -> None:
        for part, rows in _parts(name, by.shape):
            place = self._stored[part]
            info = self._base.infos[place.name]
            stop = info.rows if place.stop is None else place.stop
            piece = _cut(by, rows)
            _check_shape(part, piece.shape, (stop - place.start, *info.shape[1:]) if info.shape else (), adapter)
            if isinstance(piece, Lora) or place.stop is not None:
                self._changes.setdefault(place.name, []).append(_Change(place.start, stop, piece))
            else:
                self._whole[place.name] = piece
                self.infos[place.name] = TensorInfo(MERGED, piece.shape, "F32")

    def _give_head(self, values: Whole, adapter: Adapter) -> None:
        _check_shape(_HEAD, values.shape, self._base.infos[self._stored[_TABLE].name].shape, adapter)
        self._drop_stored_head()
        self._whole[_HEAD] = values
        self.infos[_HEAD] = TensorInfo(MERGED, values.shape, "F32")

    def _keep_head(self) -> None:
        self._head = self._stored[_TABLE].name
        table = self._base.infos[self._head]
        self._drop_stored_head()
        self.infos[_HEAD] = TensorInfo(MERGED, table.shape, table.kind)

    def _drop_stored_head(self) -> None:
        """A copy of the table that some checkpoints hold though nothing reads it."""
        if _HEAD in self._stored:
            del self.infos[self._stored[_HEAD].name]


def _is_tied(config: Config, own: bool) -> bool:
    about = config.get("llm_config" if own else "text_config")
    otherwise = config.get("tie_word_embeddings", False)
    return bool(about.get("tie_word_embeddings", otherwise) if isinstance(about, dict) else otherwise)


def _shape(name: str, adapter: Adapter) -> tuple[int, ...]:
    return adapter.loras[name].shape if name in adapter.loras else adapter.saved[name].shape


def _parts(name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, Stored]]:
    """The one names of an adapter's weight, in whichever layout it was trained, and which of its rows are whose."""
    yield from naming.own({name: TensorInfo(MERGED, shape, "F32")}).items()


def _cut(by: Lora | Whole, rows: Stored) -> Lora | Whole:
    if rows.stop is None:
        return by
    if isinstance(by, Lora):
        return Lora(by.a, by.b[rows.start : rows.stop], by.scale)
    return by.part(rows.start, rows.stop)


def _unused(names: list[str], count: int) -> str:
    which = "None" if len(names) == count else f"{count - len(names)}"
    return f"{which} of the adapter's {count} weights are in this checkpoint; without a place: {some(names)}."


def _check_shape(name: str, found: tuple[int, ...], wanted: tuple[int, ...], adapter: Adapter) -> None:
    if found != wanted:
        sizes = " and ".join("×".join(map(str, shape)) for shape in (found, wanted))
        base = adapter.provenance.get("base", "another base")
        raise BadCheckpoint(f"{name} is {sizes}, for the adapter and in the checkpoint.", f"It was made for {base}.")
