"""What the steps of a run share: devices, model, optimiser, data; and one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facellm_training.lora.collate import Batch
from facellm_training.lora.conversations import DataError
from facellm_training.lora.corpus import Corpus, Layout, Part, Rows
from facellm_training.lora.images import Tiles
from facellm_training.lora.model import Normaliser, attention, logits_of, loss_sum
from facellm_training.lora.packing import Order, Pass, alone, pack, share, together
from facellm_training.lora.recipe import LoraRecipe


@dataclass(slots=True)
class Session:
    """``model`` and ``optim`` as accelerate prepared them. ``tell`` prints on the first device only. ``identity``:
    settings and data that a saved state must have been made with."""

    recipe: LoraRecipe
    accelerator: Any
    model: Any
    optim: Any
    normalise: Normaliser
    corpus: Corpus
    tiles: Tiles
    pad: int
    identity: dict[str, Any]
    tell: Callable[[str], None]

    @property
    def out(self) -> Path:
        return self.recipe.out

    @property
    def order(self) -> Order:
        settings = self.recipe.optimiser
        return Order(len(self.corpus.train.encoded), settings.batch, settings.epochs, settings.seed)

    def passes_of_step(self, step: int) -> list[tuple[Pass, bool]]:
        """The passes of a step that are this device's; each with whether it counts."""
        speed, lengths, chosen = self.recipe.speed, self.corpus.train.lengths, self.order.step(step)
        if not speed.packing:
            return self._mine(together(alone(chosen, lengths), speed.micro_batch))
        room, rows = self.room
        return self._mine(together(pack(chosen, lengths, room), rows))

    def passes_of(self, part: Part) -> list[tuple[Pass, bool]]:
        """The passes of all of a part that are this device's, packed."""
        lengths = part.lengths
        if not lengths:
            return []
        room, rows = self.room
        return self._mine(together(pack(range(len(lengths)), lengths, max(room, *lengths)), rows))

    @property
    def room(self) -> tuple[int, int]:
        """Tokens a row, and rows a pass. Flash attention takes conversations apart in a single row only, and computes
        nothing between them, so that one long row costs no more."""
        speed = self.recipe.speed
        if attention(speed.attention, self.accelerator.device).startswith("flash"):
            return speed.row_tokens * speed.rows, 1
        return speed.row_tokens, speed.rows

    def _mine(self, passes: Sequence[Pass]) -> list[tuple[Pass, bool]]:
        return share(passes, self.accelerator.num_processes, self.accelerator.process_index)

    def loader(self, part: Part, passes: Sequence[Pass], *, packing: bool = True) -> Iterator[Batch]:
        """The passes' batches in order, made ahead by ``data.workers`` processes, on this device."""
        device = self.accelerator.device
        workers = min(self.recipe.data.workers, len(passes))
        data = Rows(part, self.tiles, self.layout(packing=packing))
        found = torch.utils.data.DataLoader(
            data, batch_size=None, sampler=passes, num_workers=workers,  # type: ignore[arg-type]
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else its beginning draws from the step's own random numbers
        )  # fmt: skip
        try:
            for batch in found:
                yield batch.to(device)
        except DataError as error:  # of another process: its sentence is the last line of a traceback
            raise DataError(str(error).strip().splitlines()[-1].rsplit("DataError: ", 1)[-1], error.hint) from error

    def layout(self, *, packing: bool) -> Layout:
        fill = self.room[0] if self.recipe.speed.compiled else 0
        return Layout(packing, fill, self.pad)

    def loss(self, batch: Batch) -> Tensor:
        """Summed over the places that count."""
        with self.accelerator.autocast():
            logits = logits_of(self.model, batch, self.normalise)
        return loss_sum(logits, batch.targets)
