"""What fits into memory, after one did not: tried, not guessed."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import torch

from facellm_training.lora.packing import Pass
from facellm_training.lora.session import Session


def what_fits(session: Session, passed: Pass) -> tuple[str, str]:
    """Take half of the rows of the pass forward and backward, a quarter, … then half of the conversations of one row,
    until it fits. A sentence and a hint.

    Several devices wait for each other in every pass, so that there nothing is tried and half is named.
    """
    taken = f"It has {_counted(session, passed)}."
    tries = _smaller(passed)
    fitting, tried = (next(tries, None), "not tried") if _several(session) else (_first(session, tries), "tried")
    if fitting is None:
        return f"{taken} Not even one conversation fits.", _others(session)
    said = f"{taken} On this device a batch of {_counted(session, fitting)} fits ({tried})."
    return said, f"Set {_setting(session, fitting)}. {_others(session)}"


def _counted(session: Session, passed: Pass) -> str:
    chosen = [one for row in passed for one in row]
    return f"{len(chosen)} conversations, {sum(session.corpus.train.lengths[one] for one in chosen)} tokens"


def _setting(session: Session, fitting: Pass) -> str:
    if not session.recipe.speed.packing:
        return f"speed.micro_batch: {len(fitting)}"
    tokens = max(sum(session.corpus.train.lengths[one] for one in row) for row in fitting)
    if len(fitting) > 1 or tokens >= session.recipe.data.max_tokens:
        return f"speed.rows: {len(fitting)}" + ("" if len(fitting) > 1 else f" and speed.row_tokens: {tokens}")
    longer = sum(length > tokens for length in session.corpus.train.lengths)
    limit = f"speed.rows: 1, speed.row_tokens: {tokens} and data.max_tokens: {tokens}"
    left_out = f" ({longer} longer conversations are then left out: a new run, with an out of its own)"
    return limit + (left_out if longer else "")


def _smaller(passed: Pass) -> Iterator[Pass]:
    while len(passed) > 1:
        passed = passed[: len(passed) // 2]
        yield passed
    row = passed[0]
    while len(row) > 1:
        row = row[: len(row) // 2]
        yield (row,)


def _several(session: Session) -> bool:
    return int(session.accelerator.num_processes) > 1


def _first(session: Session, tries: Iterator[Pass]) -> Pass | None:
    """The first that fits. Its gradients are thrown away."""
    for passed in tries:
        gc.collect()
        if session.accelerator.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            packing = session.recipe.speed.packing
            for batch in session.loader(session.corpus.train, [passed], packing=packing):
                session.accelerator.backward(session.loss(batch))
        except torch.OutOfMemoryError:
            continue
        finally:
            session.optim.zero_grad(set_to_none=True)
        return passed
    return None


def _others(session: Session) -> str:
    speed = session.recipe.speed
    ways = [
        "speed.gradient_checkpointing: true" if not speed.gradient_checkpointing else "",
        "speed.four_bits: true (QLoRA; a new run, with an out of its own)" if not speed.four_bits else "",
        "several devices with training/recipes/fsdp-one-machine.yaml",
    ]
    return f"Also: {'; '.join(filter(None, ways))}. optimiser.batch stays: the steps are the same."
