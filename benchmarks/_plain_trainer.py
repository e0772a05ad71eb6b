"""The loop to compare with: a plain transformers Trainer with the paper's settings."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from facellm_training.lora.session import Session


def trainer_steps(session: Session, micro_batch: int, steps: int) -> list[float]:
    """Seconds of each of ``steps`` steps of a plain Trainer on the same model and conversations."""
    import torch
    import transformers

    class Clock(transformers.TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.ends.append(time.monotonic())

    recipe, clock = session.recipe, Clock()
    settings = transformers.TrainingArguments(
        output_dir=str(session.out), per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=recipe.optimiser.batch // micro_batch, max_steps=steps + 1,
        learning_rate=1e-5, lr_scheduler_type="cosine", bf16=recipe.speed.precision == "bf16",
        gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": False}, report_to=[],
        save_strategy="no", logging_strategy="no", remove_unused_columns=False, disable_tqdm=True,
        dataloader_num_workers=recipe.data.workers,
    )  # fmt: skip
    trainer = transformers.Trainer(
        model=session.accelerator.unwrap_model(session.model), args=settings, callbacks=[clock],
        train_dataset=list(range(len(session.corpus.train.encoded))), data_collator=Padding(session),
    )  # fmt: skip
    trainer.train()
    return [end - begun for begun, end in zip(clock.ends, clock.ends[1:], strict=False)]


class Padding:
    """What a plain collator does: decode, normalise on the processor, pad; labels for the whole row."""

    def __init__(self, session: Session) -> None:
        self._part, self._tiles = session.corpus.train, session.tiles

    def __call__(self, chosen: list[int]) -> dict[str, torch.Tensor]:
        import numpy as np
        import torch

        encoded = [self._part.encoded[one] for one in chosen]
        length = max(len(one) for one in encoded)
        ids, labels = np.zeros((len(chosen), length), np.int64), np.full((len(chosen), length), -100)
        mask = np.zeros((len(chosen), length), np.int64)
        for place, one in enumerate(encoded):
            ids[place, : len(one)], labels[place, : len(one)], mask[place, : len(one)] = one.ids, one.labels, 1
        pixels = np.stack([self._tiles(self._part.conversations[one].images[0]) for one in chosen])
        values = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        return {
            "input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels),
            "attention_mask": torch.from_numpy(mask),
            "pixel_values": (values - mean[:, None, None]) / std[:, None, None],
        }  # fmt: skip
