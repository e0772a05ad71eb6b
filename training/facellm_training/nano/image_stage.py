"""First stage: the upper image blocks (LoRA) and the projector learn to show a face's attributes.

Each task reads the 49 image tokens through one learned query and a linear layer, which is about
what an attention head of the language model can do. No language model runs here, so that a
picture costs about a tenth of the second stage; what the tokens show linearly, the language
model later reads within a few thousand pictures.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facellm.models.nano import clip_onnx
from facellm_training.data.labels import TASKS, FaceLabels, held_out
from facellm_training.nano.cache import FeatureCache
from facellm_training.nano.projector import EMBEDDING_NORM, OUTPUT, Projector
from facellm_training.nano.tower import Tower, pixel_shuffle


@dataclass(frozen=True, slots=True)
class ImageStage:
    """Settings of the first stage."""

    first_block: int = 6
    rank: int = 32
    alpha: float = 32.0
    epochs: float = 2.0
    batch: int = 32
    tower_lr: float = 6e-4
    projector_lr: float = 1e-3
    head_lr: float = 2e-3
    weight_decay: float = 0.02
    warmup_steps: int = 60
    #: Mass given to the two neighbouring age bins: bins are ordered and their edges are fuzzy.
    age_smoothing: float = 0.16
    label_smoothing: float = 0.05
    token_dropout: float = 0.1
    #: Weight of the squared log of (token length / word embedding length). The heads do not see lengths, so
    #: nothing else holds them: without this they grew to 250 times a word's, and the language model, which adds
    #: to what it is given, could no longer change such tokens (gender by letters 60 % after 240 steps).
    length_weight: float = 0.1
    seed: int = 0
    bf16: bool = True


class Heads(nn.Module):
    """One query and one linear layer a task over the image tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.ParameterDict({task: nn.Parameter(torch.zeros(OUTPUT)) for task in TASKS})
        self.linear = nn.ModuleDict({task: nn.Linear(OUTPUT, len(names)) for task, names in TASKS.items()})

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """``tokens`` ``[batch, 49, 576]`` → logits per task."""
        tokens = F.layer_norm(tokens, (OUTPUT,))
        out = {}
        for task, linear in self.linear.items():
            weight = (tokens @ self.query[task] / math.sqrt(OUTPUT)).softmax(-1)
            out[task] = linear((weight[..., None] * tokens).sum(1))
        return out


class ImageModel(nn.Module):
    """Upper blocks, pixel shuffle, projector and heads."""

    def __init__(self, weights: clip_onnx.Weights, settings: ImageStage) -> None:
        super().__init__()
        dtype = torch.bfloat16 if settings.bf16 else torch.float32
        self.tower = Tower(weights, first=settings.first_block, rank=settings.rank, alpha=settings.alpha, dtype=dtype)
        self.projector = Projector()
        self.heads = Heads()

    def tokens(self, features: Tensor) -> Tensor:
        """Cached residual stream ``[batch, 197, 768]`` → image tokens ``[batch, 49, 576]``."""
        return self.projector(pixel_shuffle(self.tower(features.float())))


def targets(labels: list[FaceLabels], settings: ImageStage) -> dict[str, Tensor]:
    """Soft targets per task, ``[n, classes]``; rows of zeros where a label is unknown."""
    out = {}
    for task, names in TASKS.items():
        target = torch.zeros(len(labels), len(names))
        for row, item in enumerate(labels):
            value = item.classes.get(task)
            if value is None:
                continue
            if task == "age":
                near = [i for i in (value - 1, value + 1) if 0 <= i < len(names)]
                target[row, near] = settings.age_smoothing / len(near)
                target[row, value] = 1 - settings.age_smoothing
            else:
                target[row] = settings.label_smoothing / len(names)
                target[row, value] += 1 - settings.label_smoothing
        out[task] = target
    return out


def stage_loss(logits: dict[str, Tensor], wanted: dict[str, Tensor]) -> Tensor:
    """Sum of the tasks' mean cross-entropies over the rows that carry the label, age counted twice."""
    total = torch.zeros(())
    for task, output in logits.items():
        known = wanted[task].sum(-1) > 0
        if known.any():
            weight = 2.0 if task == "age" else 1.0
            share = float(known.float().mean())
            # A weak label on a tenth of the pictures must not shake the tokens as much as one on all.
            total = total + weight * math.sqrt(share) * F.cross_entropy(output[known], wanted[task][known])
    return total


@torch.no_grad()
def evaluate(model: ImageModel, cache: FeatureCache, rows: np.ndarray, labels: list[FaceLabels]) -> dict[str, Any]:
    """Accuracy per task, and age within one bin, on the given rows."""
    model.eval()
    hits: dict[str, list[float]] = {}
    for start in range(0, len(rows), 32):
        part = rows[start : start + 32]
        logits = model.heads(model.tokens(torch.from_numpy(cache.features[part])))
        for task, output in logits.items():
            for index, row in enumerate(part):
                value = labels[row].classes.get(task)
                if value is not None:
                    found = int(output[index].argmax())
                    hits.setdefault(task, []).append(float(found == value))
                    if task == "age":
                        hits.setdefault("age±1", []).append(float(abs(found - value) <= 1))
    model.train()
    return {task: {"accuracy": float(np.mean(values)), "n": len(values)} for task, values in hits.items()}


def optimiser(model: ImageModel, settings: ImageStage) -> torch.optim.AdamW:
    """AdamW with a rate for each part."""
    groups = [
        {"params": [p for p in model.tower.parameters() if p.requires_grad], "lr": settings.tower_lr},
        {"params": list(model.projector.parameters()), "lr": settings.projector_lr},
        {"params": list(model.heads.parameters()), "lr": settings.head_lr},
    ]
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay, betas=(0.9, 0.98))


def train(
    model: ImageModel, cache: FeatureCache, labels: list[FaceLabels], settings: ImageStage, out: Path
) -> dict[str, Any]:
    """Train and save ``out/image.pt`` (resumable); metrics go to ``out/image.jsonl``."""
    rng = np.random.default_rng(settings.seed)
    rows = np.array([i for i, item in enumerate(labels) if not held_out(item.file)])
    held = np.array([i for i, item in enumerate(labels) if held_out(item.file) and item.view == 0])
    order = np.concatenate([rng.permutation(rows) for _ in range(math.ceil(settings.epochs))])
    steps = int(len(rows) * settings.epochs) // settings.batch
    optim, saved = optimiser(model, settings), out / "image.pt"
    rates = [group["lr"] for group in optim.param_groups]
    done = _resume(model, optim, saved)
    if not done:
        model.projector.start_from(
            pixel_shuffle(model.tower(torch.from_numpy(cache.features[rows[:64]]).float())).detach()
        )
    started, losses = time.monotonic(), []
    with (out / "image.jsonl").open("a", encoding="utf-8") as log:
        for step in range(done, steps):
            for group, rate in zip(optim.param_groups, rates, strict=True):
                group["lr"] = rate * schedule(step, steps, settings.warmup_steps)
            part = np.sort(order[step * settings.batch : (step + 1) * settings.batch])
            losses.append(_step(model, optim, cache, part, labels, settings))
            if step % 20 == 19:
                speed = (step + 1 - done) * settings.batch / (time.monotonic() - started)
                mean = float(np.mean(losses[-20:]))
                line = {"step": step + 1, "of": steps, "loss": mean, "pictures_per_s": speed}
                log.write(json.dumps(line) + "\n")
                log.flush()
                print(line, flush=True)
            if step % 200 == 199 or step + 1 == steps:
                torch.save({"model": trainable(model), "optim": optim.state_dict(), "step": step + 1}, saved)
    report = evaluate(model, cache, held, labels)
    (out / "image-heldout.json").write_text(json.dumps(report, indent=1))
    return report


def length_penalty(tokens: Tensor) -> Tensor:
    """Mean squared log of the tokens' length over that of a word embedding."""
    return (tokens.norm(dim=-1).clamp_min(1e-6) / EMBEDDING_NORM).log().square().mean()


def _step(model: ImageModel, optim: torch.optim.AdamW, cache: FeatureCache, part: np.ndarray,
          labels: list[FaceLabels], settings: ImageStage) -> float:  # fmt: skip
    tokens = model.tokens(torch.from_numpy(cache.features[part]))
    keep = torch.rand(tokens.shape[:2]) > settings.token_dropout
    loss = stage_loss(model.heads(tokens * keep[..., None]), targets([labels[i] for i in part], settings))
    loss = loss + settings.length_weight * length_penalty(tokens)
    optim.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    optim.step()
    return float(loss.detach())


def schedule(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then cosine to 2 %."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the parameters that training changes."""
    return {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}


def _resume(model: ImageModel, optim: torch.optim.AdamW, saved: Path) -> int:
    if not saved.exists():
        return 0
    state = torch.load(saved, weights_only=True)
    model.load_state_dict(state["model"], strict=False)
    optim.load_state_dict(state["optim"])
    return int(state["step"])
