"""Where a run's numbers go: metrics.jsonl, TensorBoard, and a line on the terminal."""

from __future__ import annotations

import time
from typing import Any

import torch

from facellm_training.lora import state
from facellm_training.lora.session import Session

#: Steps between two lines on the terminal.
LINE_EVERY = 10


class Log:
    """Writes on the first device only. ``done``: steps that a resumed run has behind it."""

    def __init__(self, session: Session, steps: int, done: int) -> None:
        self._session, self._steps, self._done = session, steps, done
        self._begun = time.monotonic()
        self._writer: Any = None
        if session.accelerator.is_main_process:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(session.out / "tensorboard"), purge_step=done + 1)

    def step(self, step: int, numbers: dict[str, Any], seconds: float) -> None:
        """``numbers`` of a step that took ``seconds``; what was trained on is added from the plan."""
        chosen = self._session.order.step(step - 1)
        encoded = [self._session.corpus.train.encoded[one] for one in chosen]
        row = {"step": step, **numbers, "conversations": len(chosen), "tokens": sum(len(one) for one in encoded),
               "supervised": sum(one.supervised for one in encoded), "seconds": round(seconds, 4),
               "memory": _memory()}  # fmt: skip
        if self._writer is None:
            return
        state.append(self._session.out, row)
        for name in ("loss", "gradient_norm", "share_of_rate"):
            self._writer.add_scalar(f"train/{name}", row[name], step)
        self._writer.add_scalar("speed/conversations_per_s", len(chosen) / seconds, step)
        self._writer.add_scalar("speed/tokens_per_s", row["tokens"] / seconds, step)
        if step % LINE_EVERY == 0 or step in (1, self._steps):
            left = (time.monotonic() - self._begun) / (step - self._done) * (self._steps - step)
            self._session.tell(
                f"step {step} of {self._steps}: loss {row['loss']:.4f}, {len(chosen) / seconds:.1f} conversations/s, "
                f"{left / 60:.0f} min left"
            )

    def evaluation(self, row: dict[str, Any]) -> None:
        """Of ``measure.evaluate``, with its ``step``."""
        if self._writer is None:
            return
        numbers = {name: row[name] for name in ("loss", "accuracy", "probability") if name in row}
        for name, value in numbers.items():
            self._writer.add_scalar(f"held_out/{name}", value, row["step"])
        told = ", ".join(f"{name} {value:.4f}" for name, value in numbers.items()) or "nothing to measure on"
        self._session.tell(f"held out, after step {row['step']}: {told}")

    def close(self) -> None:
        """Write what is pending."""
        if self._writer is not None:
            self._writer.close()


def _memory() -> int:
    """Most bytes that the device held so far; 0 without CUDA."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
