"""AdamW with a rate for each part of the model, and the rates' course."""

from __future__ import annotations

import math
from typing import Any

import torch

from facellm_training.lora.model import part_of
from facellm_training.lora.recipe import LoraRecipe, Optimiser


def optimiser(model: Any, recipe: LoraRecipe, device: torch.device) -> torch.optim.Optimizer:
    """Over the trained parameters, one group a part; each group keeps its own highest rate in ``top``."""
    rates = {
        "language": recipe.language.lr, "image_tower": recipe.image_tower.lr, "projector": recipe.projector.lr,
    }  # fmt: skip
    groups: dict[str, list[Any]] = {}
    for name, values in model.named_parameters():
        if values.requires_grad:
            groups.setdefault(part_of(name), []).append(values)
    return torch.optim.AdamW(
        [{"params": values, "lr": rates[part], "top": rates[part]} for part, values in groups.items()],
        weight_decay=recipe.optimiser.weight_decay, fused=device.type == "cuda",
    )  # fmt: skip


def share_of_rate(step: int, steps: int, settings: Optimiser) -> float:
    """Of the highest rate, at ``step`` from 0: a linear rise, then one cosine."""
    rise = round(settings.warm_up * steps)
    if step < rise:
        return (step + 1) / rise
    done = (step - rise) / max(1, steps - rise)
    return settings.final_share + (1 - settings.final_share) * 0.5 * (1 + math.cos(math.pi * done))


def set_rates(optim: torch.optim.Optimizer, share: float) -> None:
    """Each group at ``share`` of its highest rate."""
    for group in optim.param_groups:
        group["lr"] = group["top"] * share
