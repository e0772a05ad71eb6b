"""The training loop: steps, metrics, evaluations, states; and what is said when the machine fails."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch

from facellm.core.errors import FaceLLMError
from facellm_training.lora import measure, state
from facellm_training.lora.collate import Batch
from facellm_training.lora.faults import DeviceLost, OutOfMemory, is_lost_device
from facellm_training.lora.fitting import what_fits
from facellm_training.lora.log import Log
from facellm_training.lora.optimiser import set_rates, share_of_rate
from facellm_training.lora.packing import Pass
from facellm_training.lora.session import Session


class Diverged(FaceLLMError):
    """The loss is no number any more."""


def run(session: Session) -> state.Progress:
    """Train from where the saved state ends to the last step, or to an early stop.

    Raises ``OutOfMemory``, ``DeviceLost``, ``DiskFull`` and ``Diverged``; a state from which the same command goes on
    is there after each.
    """
    progress = state.load(session.out, session.identity, session.model, session.optim)
    if session.accelerator.is_main_process:
        state.forget_after(session.out, progress.step)
    if progress.step:
        session.tell(f"Going on after step {progress.step} of {session.order.steps}.")
    session.model.train()
    try:
        _steps(session, progress)
    except torch.OutOfMemoryError as error:  # not in a pass with gradients, which says more: see _too_large
        raise OutOfMemory(
            f"Measuring or the optimiser's step after step {progress.step} does not fit into memory.",
            "Lower speed.rows or speed.row_tokens; the last saved state is kept.",
        ) from error
    except Exception as error:
        if is_lost_device(error):
            raise DeviceLost(
                f"The device failed in step {progress.step + 1}: {str(error).splitlines()[0]}",
                f"The state after step {saved_step(session)} is kept. Look at the card (nvidia-smi, dmesg), then start "
                "the same command again.",
            ) from error
        raise
    return progress


def saved_step(session: Session) -> int:
    """Of the state on disk; 0 without one."""
    path = session.out / state.STATE
    if not path.is_file():
        return 0
    saved = torch.load(path, weights_only=True, map_location="cpu")
    return int(json.loads(saved["progress"])["step"])


def _steps(session: Session, progress: state.Progress) -> None:
    steps = session.order.steps
    if progress.stopped or progress.step >= steps:
        return
    plan = [session.passes_of_step(step) for step in range(progress.step, steps)]
    loader = session.loader(
        session.corpus.train, [one for passes in plan for one, _ in passes], packing=session.recipe.speed.packing
    )
    log = Log(session, steps, progress.step)
    try:
        if not progress.evaluations:
            _evaluate(session, progress, log)
        for passes in plan:
            begun = time.monotonic()
            numbers = _step(session, progress, loader, passes)
            progress.step += 1
            log.step(progress.step, numbers, time.monotonic() - begun)
            if _between(session, progress, log, last=progress.step == steps):
                break
    finally:
        log.close()


def _between(session: Session, progress: state.Progress, log: Log, *, last: bool) -> bool:
    """After a step: evaluate and save where it is time. Whether to stop early."""
    every = session.recipe.evaluation.every
    if last or (every and progress.step % every == 0):
        _evaluate(session, progress, log)
    if last or progress.stopped or progress.step % session.recipe.save_every == 0:
        _save(session, progress)
    return progress.stopped


def _save(session: Session, progress: state.Progress) -> None:
    state.save(session.out, progress, session.identity, session.accelerator, session.model, session.optim)


def _evaluate(session: Session, progress: state.Progress, log: Log) -> None:
    settings = session.recipe.evaluation
    row = {"step": progress.step, **measure.evaluate(session)}
    progress.evaluations.append(row)
    log.evaluation(row)
    new, old = (measure.score(one, settings.watch) for one in (row, progress.evaluations[max(0, progress.best)]))
    if new is None or old is None:
        return
    if progress.best < 0 or new > old:
        progress.best, progress.worse = len(progress.evaluations) - 1, 0
        if progress.step:
            state.save_adapter(session.out, state.BEST, session.accelerator, session.model)
        return
    progress.worse += 1
    if settings.patience and progress.worse >= settings.patience:
        progress.stopped = True
        session.tell(f"No better {settings.watch} in {progress.worse} evaluations: stopped at step {progress.step}.")


def _step(
    session: Session, progress: state.Progress, loader: Iterator[Batch], passes: list[tuple[Pass, bool]]
) -> dict[str, Any]:
    """One step of the optimiser over all passes of the step. What is random in it follows from its number."""
    accelerator, settings, step = session.accelerator, session.recipe.optimiser, progress.step
    share = share_of_rate(step, session.order.steps, settings)
    set_rates(session.optim, share)
    torch.manual_seed(settings.seed * 1_000_003 + step)
    supervised = sum(session.corpus.train.encoded[one].supervised for one in session.order.step(step))
    total = torch.zeros((), device=accelerator.device)
    session.optim.zero_grad(set_to_none=True)
    for number, (passed, counts) in enumerate(passes):
        last = number == len(passes) - 1
        try:
            batch = next(loader)
            # Gradients of several devices are averaged, after the last pass.
            with nullcontext() if last else accelerator.no_sync(session.model):
                loss = session.loss(batch) * (counts / supervised)
                accelerator.backward(loss * accelerator.num_processes)
        except torch.OutOfMemoryError as error:
            raise _too_large(session, progress, passed) from error
        total += loss.detach()
    mean = float(accelerator.reduce(total, "sum"))
    if not math.isfinite(mean):
        raise Diverged(
            f"The loss of step {step + 1} is {mean}.", "Lower the learning rates; the last saved state is kept."
        )
    norm = accelerator.clip_grad_norm_(session.model.parameters(), settings.clip)
    session.optim.step()
    return {"loss": mean, "share_of_rate": share, "gradient_norm": float(norm)}


def _too_large(session: Session, progress: state.Progress, passed: Pass) -> OutOfMemory:
    """Says what fits, and keeps the state: no weight has changed since the last whole step."""
    session.optim.zero_grad(set_to_none=True)
    sentence, hint = what_fits(session, passed)
    if session.accelerator.num_processes == 1 and progress.step:
        _save(session, progress)
        hint += f" The state after step {progress.step} is kept; the same command goes on from it."
    return OutOfMemory(f"Step {progress.step + 1} does not fit into memory. {sentence}", hint)
