"""The training loop of both stages: rate schedule, metrics, checkpoints that survive a kill."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from facellm_training.nano.machine import give_memory_back

#: Steps over which the loss that is written and printed is averaged.
WINDOW = 20


@dataclass(frozen=True, slots=True)
class Loop:
    """``name``: the stage; state goes to ``out/NAME.pt``, metrics to ``out/NAME.jsonl``. ``batch``: pictures a step."""

    name: str
    out: Path
    steps: int
    batch: int
    warmup: int
    save_every: int = 100
    seed: int = 0


def run(loop: Loop, model: nn.Module, optim: torch.optim.Optimizer, loss_of: Callable[[int], Tensor]) -> None:
    """Train the parameters of ``model`` that want a gradient from where the state file ends.

    ``loss_of(step)`` must draw everything random from ``step`` or from torch's generator, which is
    seeded for each step: a resumed run then takes the very steps of an uninterrupted one.
    """
    rates = [group["lr"] for group in optim.param_groups]
    saved = loop.out / f"{loop.name}.pt"
    done = resume(model, optim, saved)
    started, losses = time.monotonic(), []
    for step in range(done, loop.steps):
        for group, rate in zip(optim.param_groups, rates, strict=True):
            group["lr"] = rate * schedule(step, loop.steps, loop.warmup)
        torch.manual_seed(loop.seed * 1_000_003 + step)
        loss = loss_of(step)
        optim.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        optim.step()
        losses.append(float(loss.detach()))
        if (step + 1) % WINDOW == 0:
            speed = (step + 1 - done) * loop.batch / (time.monotonic() - started)
            _write(loop, step + 1, float(np.mean(losses[-WINDOW:])), speed)
        if (step + 1) % loop.save_every == 0 or step + 1 == loop.steps:
            save(model, optim, step + 1, saved)
            give_memory_back()


def _write(loop: Loop, step: int, loss: float, speed: float) -> None:
    line = {"step": step, "of": loop.steps, "loss": loss, "pictures_per_s": speed}
    with (loop.out / f"{loop.name}.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")
    print(line, flush=True)


def schedule(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then cosine to 2 %."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def save(model: nn.Module, optim: torch.optim.Optimizer, step: int, path: Path) -> None:
    """Write the state to a temporary name and rename it: a kill leaves the last whole one."""
    trained = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    part = path.with_suffix(".part")
    torch.save({"model": trained, "optim": optim.state_dict(), "step": step}, part)
    os.replace(part, path)


def resume(model: nn.Module, optim: torch.optim.Optimizer, path: Path) -> int:
    """Steps already taken; their state is loaded. 0 when there is no state."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True, map_location="cpu")
    model.load_state_dict(state["model"], strict=False)
    optim.load_state_dict(state["optim"])
    return int(state["step"])
