"""A checkpoint as one thing: what it is, its dimensions, and every weight by one name whatever the layout.

The names are those of transformers' modules (its ``-hf`` layout without the leading ``model.``):
``language_model.layers.0.self_attn.q_proj.weight``, ``language_model.embed_tokens.weight``, ``lm_head.weight``,
``vision_tower.encoder.layer.0.attention.q_proj.weight`` (InternVL), or CLIP's
``vision_tower.encoder.layers.0.self_attn.q_proj.weight``, ``multi_modal_projector.linear_1.weight``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellm_converters.checkpoint.json_file import read_json
from facellm_converters.checkpoint.tensors import TensorSource, opened
from facellm_converters.errors import BadCheckpoint
from facellm_converters.layouts.names import Stored
from facellm_converters.layouts.recognise import Recognised, recognise
from facellm_converters.layouts.specs import Config, TextSpec, VisionSpec
from facellm_converters.layouts.weights import Shape

#: Gives the tensors with an adapter merged in, see ``lora.merging``.
Merge = Callable[[TensorSource, Config], TensorSource]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """``kind``: "internvl", "llava" or "nano". ``weights``: shapes of all that it consists of, by their one names;
    ``names``: where the values are stored (and those of weights that nothing reads)."""

    folder: Path
    kind: str
    config: Config
    text: TextSpec
    vision: VisionSpec
    weights: Mapping[str, Shape]
    names: Mapping[str, Stored]
    tensors: TensorSource

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def kind_of(self, name: str) -> str:
        """How it is stored: "F32", "F16", "BF16"."""
        return self.tensors.infos[self._stored(name).name].kind

    def read(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Rows ``start:stop`` as float32, the caller's own."""
        stored = self._stored(name)
        return self.tensors.read(stored.name, *stored.rows(start, stop))

    def raw(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any] | None:
        """As :meth:`TensorSource.raw`."""
        stored = self._stored(name)
        return self.tensors.raw(stored.name, *stored.rows(start, stop))

    def _stored(self, name: str) -> Stored:
        if name not in self.names:
            raise BadCheckpoint(
                f"The checkpoint {self.folder.name} lacks {name}.", "Is it whole? Fetch it again, or save it again."
            )
        return self.names[name]


@contextmanager
def open_checkpoint(folder: Path, merged: Merge | None = None) -> Iterator[Checkpoint]:
    """The checkpoint in ``folder``, as it is or with an adapter merged in.

    Raises ``BadCheckpoint`` or ``Unsupported`` with what was found.
    """
    config = read_json(folder / "config.json")
    with opened(folder) as tensors:
        source: TensorSource = merged(tensors, config) if merged is not None else tensors
        found: Recognised = recognise(folder, config, source.infos)
        yield Checkpoint(folder, found.kind, config, found.text, found.vision, found.weights, found.names, source)
