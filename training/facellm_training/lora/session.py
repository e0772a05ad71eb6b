"""What the steps of a run share: devices, model, optimiser, data; and one pass over a row."""

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
from facellm_training.lora.model import Normaliser, logits_of, loss_sum
from facellm_training.lora.packing import Order, Row, batches, pack, share
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

    def rows_of_step(self, step: int) -> list[tuple[Row, bool]]:
        """The rows of a step that are this device's; each with whether it counts."""
        speed, lengths, chosen = self.recipe.speed, self.corpus.train.lengths, self.order.step(step)
        if not speed.packing:
            return self._mine(batches(chosen, lengths, speed.micro_batch))
        return self._mine(pack(chosen, lengths, speed.row_tokens))

    def rows_of(self, part: Part) -> list[tuple[Row, bool]]:
        """The rows of all of a part that are this device's, packed."""
        lengths = part.lengths
        room = max(self.recipe.speed.row_tokens, *lengths, 1)
        return self._mine(pack(range(len(lengths)), lengths, room)) if lengths else []

    def _mine(self, rows: Sequence[Row]) -> list[tuple[Row, bool]]:
        return share(rows, self.accelerator.num_processes, self.accelerator.process_index)

    def loader(self, part: Part, rows: Sequence[Row], *, packing: bool = True) -> Iterator[Batch]:
        """The rows' batches in order, made ahead by ``data.workers`` processes, on this device."""
        device = self.accelerator.device
        workers = min(self.recipe.data.workers, len(rows))
        data = Rows(part, self.tiles, self.layout(packing=packing))
        found = torch.utils.data.DataLoader(
            data, batch_size=None, sampler=rows, num_workers=workers,  # type: ignore[arg-type]
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else its beginning draws from the step's own random numbers
        )  # fmt: skip
        try:
            for batch in found:
                yield batch.to(device)
        except DataError as error:  # of another process: its sentence is the last line of a traceback
            raise DataError(str(error).strip().splitlines()[-1].rsplit("DataError: ", 1)[-1], error.hint) from error

    def layout(self, *, packing: bool) -> Layout:
        fill = self.recipe.speed.row_tokens if self.recipe.speed.compiled else 0
        return Layout(packing, fill, self.pad)

    def loss(self, batch: Batch) -> Tensor:
        """Summed over the places that count."""
        with self.accelerator.autocast():
            logits = logits_of(self.model, batch, self.normalise)
        return loss_sum(logits, batch.targets)
