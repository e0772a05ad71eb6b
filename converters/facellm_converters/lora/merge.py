"""A checkpoint's tensors with an adapter merged in, row by row as they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellm_converters.checkpoint.tensors import MERGED, TensorInfo, TensorSource, some
from facellm_converters.errors import BadCheckpoint
from facellm_converters.layouts.checkpoint import Merge
from facellm_converters.layouts.names import plain
from facellm_converters.layouts.specs import Config
from facellm_converters.lora.adapter import Adapter, Lora, Matrix

_HEAD, _TABLE = "lm_head.weight", "language_model.embed_tokens.weight"


def merging(adapter: Adapter) -> Merge:
    """What :func:`open_checkpoint` takes. Raises ``BadCheckpoint`` where anything of the adapter would be left out."""

    def merge(tensors: TensorSource, _config: Config) -> TensorSource:
        return Merged(tensors, adapter)

    return merge


class Merged:
    """A :class:`TensorSource`; touched weights exist as float32 only."""

    def __init__(self, base: TensorSource, adapter: Adapter) -> None:
        self._base = base
        stored = {plain(name): name for name in base.infos}
        self._loras: dict[str, Lora] = {}
        self._saved: dict[str, Matrix] = {}
        infos = dict(base.infos)
        unused = sorted(set(adapter.loras) - set(stored))
        unused += sorted(name for name in adapter.saved if name not in stored and name != _HEAD)
        if unused:
            count = len(adapter.loras) + len(adapter.saved)
            raise BadCheckpoint(_unused(unused, count), "Was it made for another base?")
        for name, lora in adapter.loras.items():
            _check_shape(name, lora.shape, infos[stored[name]].shape, adapter)
            self._loras[stored[name]] = lora
        for name, values in adapter.saved.items():
            place = stored.get(name, name)
            if place in infos:
                _check_shape(name, values.shape, infos[place].shape, adapter)
            else:  # a tied head that was trained: from now on a table of its own
                _check_shape(name, values.shape, infos[stored[_TABLE]].shape, adapter)
            infos[place] = TensorInfo(MERGED, values.shape, "F32")
            self._saved[place] = values
        self.infos: Mapping[str, TensorInfo] = infos

    def read(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        whole = self._saved.get(name)
        values = self._base.read(name, start, stop) if whole is None else whole[start:stop].copy()
        lora = self._loras.get(name)
        if lora is not None:
            values += lora.rows(start, stop)
        return values

    def raw(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any] | None:
        if name in self._loras or name in self._saved:
            return None
        return self._base.raw(name, start, stop)

    def release(self) -> None:
        self._base.release()


def _unused(names: list[str], count: int) -> str:
    if names == [_HEAD]:
        return "The adapter changes lm_head, but this checkpoint's head is its embedding table, which would change too."
    which = "None" if len(names) == count else f"{count - len(names)}"
    return f"{which} of the adapter's {count} weights are in this checkpoint; without a place: {some(names)}."


def _check_shape(name: str, found: tuple[int, ...], wanted: tuple[int, ...], adapter: Adapter) -> None:
    if found != wanted:
        sizes = " and ".join("×".join(map(str, shape)) for shape in (found, wanted))
        base = adapter.provenance.get("base", "another base")
        raise BadCheckpoint(f"{name} is {sizes}, for the adapter and in the checkpoint.", f"It was made for {base}.")
