"""Which row fits into memory, after one did not: tried, not guessed."""

from __future__ import annotations

import gc

import torch

from facellm_training.lora.packing import Row
from facellm_training.lora.session import Session


def what_fits(session: Session, row: Row) -> tuple[str, str]:
    """Pass the first half of ``row``, a quarter, … forward and backward until one fits. A sentence and a hint.

    Several devices wait for each other in every pass, so that there nothing is tried and half is named.
    """
    if session.accelerator.num_processes > 1:
        count, tried = max(1, len(row) // 2), "half of the row that did not fit, untried"
    else:
        count, tried = _fitting(session, row), "tried just now"
    speed, lengths = session.recipe.speed, session.corpus.train.lengths
    taken = f"It has {len(row)} conversations of {sum(lengths[one] for one in row)} tokens."
    if not count:
        return f"{taken} Not even one conversation fits.", _others(session)
    batch = f"a batch of {count} ({sum(lengths[one] for one in row[:count])} tokens) fits ({tried})"
    if not speed.packing:
        return f"{taken} On this device {batch}.", f"Set speed.micro_batch: {count}. {_others(session)}"
    tokens = sum(lengths[one] for one in row[:count])
    lower = "" if tokens >= session.recipe.data.max_tokens else f" and data.max_tokens to at most {tokens}"
    return f"{taken} On this device {batch}.", f"Set speed.row_tokens: {tokens}{lower}. {_others(session)}"


def _fitting(session: Session, row: Row) -> int:
    """How many of the row's first conversations fit; 0 for none. The gradients are thrown away."""
    count = len(row) // 2
    while count:
        gc.collect()
        if session.accelerator.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            packing = session.recipe.speed.packing
            for batch in session.loader(session.corpus.train, [row[:count]], packing=packing):
                session.accelerator.backward(session.loss(batch))
        except torch.OutOfMemoryError:
            count //= 2
        else:
            return count
        finally:
            session.optim.zero_grad(set_to_none=True)
    return 0


def _others(session: Session) -> str:
    speed = session.recipe.speed
    ways = [
        "speed.gradient_checkpointing: true" if not speed.gradient_checkpointing else "",
        "speed.four_bits: true (QLoRA)" if not speed.four_bits else "",
        "several devices with training/recipes/fsdp-one-machine.yaml",
    ]
    return f"Also: {'; '.join(filter(None, ways))}. optimiser.batch stays: the steps are the same."
