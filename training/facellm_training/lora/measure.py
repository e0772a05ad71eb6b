"""Measures a model while it trains: loss on held-out conversations, closed questions by their keys' probabilities."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from facellm_training.lora.corpus import closed_part
from facellm_training.lora.model import logits_of
from facellm_training.lora.session import Session


def evaluate(session: Session) -> dict[str, Any]:
    """``loss``: mean over the held-out answers' tokens. Of the closed questions, ``n``; ``accuracy``: the likeliest
    key is the right one; ``probability``: mean of the right key's; both also by format and aspect. What there is
    nothing to measure on is left out."""
    was = session.model.training
    session.model.eval()
    try:
        with torch.no_grad():
            return _held_loss(session) | _closed(session)
    finally:
        session.model.train(was)


def _held_loss(session: Session) -> dict[str, Any]:
    part = session.corpus.held
    if not part.encoded:
        return {}
    passes = session.passes_of(part)
    total = torch.zeros((), device=session.accelerator.device)
    for batch, (_, counts) in zip(session.loader(part, [one for one, _ in passes]), passes, strict=True):
        total += session.loss(batch) * counts
    count = sum(one.supervised for one in part.encoded)
    return {"loss": float(session.accelerator.reduce(total, "sum")) / count}


def _closed(session: Session) -> dict[str, Any]:
    closed = session.corpus.closed
    if not closed:
        return {}
    part = closed_part(closed)
    passes = session.passes_of(part)
    hit, right = (torch.zeros(len(closed), device=session.accelerator.device) for _ in range(2))
    for batch, (passed, counts) in zip(session.loader(part, [one for one, _ in passes]), passes, strict=True):
        with session.accelerator.autocast():
            logits = logits_of(session.model, batch, session.normalise)
        items = [item for row in passed for item in row]
        for item, values in zip(items, logits, strict=True) if counts else ():
            question = closed[item][1]
            shares = values[torch.tensor(question.keys, device=values.device)].float().softmax(-1)
            hit[item] = shares.argmax() == question.right
            right[item] = shares[question.right]
    hit, right = (session.accelerator.reduce(values, "sum").cpu() for values in (hit, right))
    found: dict[str, Any] = {"n": len(closed), **_means(hit, right)}
    for name in ("format", "aspect"):
        groups: dict[str, list[int]] = {}
        for place, (conversation, _) in enumerate(closed):
            groups.setdefault(str(getattr(conversation, name)) or "unnamed", []).append(place)
        found[f"by_{name}"] = {
            group: {"n": len(places), **_means(hit[places], right[places])} for group, places in sorted(groups.items())
        }
    return found


def _means(hit: Tensor, right: Tensor) -> dict[str, float]:
    return {"accuracy": float(hit.mean()), "probability": float(right.mean())}


def score(row: dict[str, Any], watch: str) -> float | None:
    """More is better; none where nothing was measured. Without closed questions, the loss decides."""
    if watch != "loss" and watch in row:
        return float(row[watch])
    return -float(row["loss"]) if "loss" in row else None
