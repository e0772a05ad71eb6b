"""First stage: the upper image blocks (LoRA) and the projector learn to show a face's attributes.

Each task reads the 49 image tokens through one learned query and a linear layer, which is about
what an attention head of the language model can do. No language model runs here, so that a
picture costs about a tenth of the second stage; what the tokens show linearly, the language
model later reads within a few thousand pictures.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facellm.models.nano import clip_onnx
from facellm.models.nano.deltas import Deltas, read_deltas
from facellm_training.data.labels import TASKS, FaceLabels, held_out
from facellm_training.nano.cache import FeatureCache
from facellm_training.nano.loop import Loop, run
from facellm_training.nano.projector import EMBEDDING_NORM, OUTPUT, Projector
from facellm_training.nano.tower import LoraLinear, Tower, pixel_shuffle, tower_loras


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
    #: A deltas file whose tower and projector are trained on, instead of starting from CLIP's own weights.
    start: str = ""


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

    @property
    def device(self) -> torch.device:
        return self.projector.norm.device

    def tokens(self, features: Tensor) -> Tensor:
        """Cached residual stream ``[batch, 197, 768]`` → image tokens ``[batch, 49, 576]``."""
        return self.projector(pixel_shuffle(self.tower(features)))


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
    """Sum of the tasks' mean cross-entropies over the rows that carry the label, age counted twice.

    ``wanted`` is on the CPU, where it is looked through; only what is needed goes to the logits' device.
    """
    losses = []
    for task, output in logits.items():
        known = wanted[task].sum(-1).nonzero()[:, 0]
        if len(known):
            weight = 2.0 if task == "age" else 1.0
            share = len(known) / len(output)
            # A weak label on a tenth of the pictures must not shake the tokens as much as one on all.
            target = wanted[task][known].to(output.device)
            losses.append(weight * math.sqrt(share) * F.cross_entropy(output[known.to(output.device)], target))
    return torch.stack(losses).sum()


@torch.no_grad()
def evaluate(model: ImageModel, cache: FeatureCache, rows: np.ndarray, labels: list[FaceLabels]) -> dict[str, Any]:
    """Accuracy per task, and age within one bin, on the given rows."""
    model.eval()
    hits: dict[str, list[float]] = {}
    for start in range(0, len(rows), 32):
        part = rows[start : start + 32]
        logits = model.heads(model.tokens(cache.read(part, model.device)))
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
    if not (out / "image.pt").exists():
        begin(model, cache.read(rows[:64], model.device), settings.start)

    def loss_of(step: int) -> Tensor:
        part = np.sort(order[step * settings.batch : (step + 1) * settings.batch])
        return batch_loss(model, cache.read(part, model.device), [labels[i] for i in part], settings)

    plan = Loop("image", out, steps, settings.batch, settings.warmup_steps, save_every=200, seed=settings.seed)
    run(plan, model, optimiser(model, settings), loss_of)
    report = evaluate(model, cache, held, labels)
    (out / "image-heldout.json").write_text(json.dumps(report, indent=1))
    return report


@torch.no_grad()
def begin(model: ImageModel, sample: Tensor, start: str) -> None:
    """Where training starts: at earlier deltas, or at CLIP's weights and a projector scaled to ``sample``."""
    if start:
        deltas = read_deltas(Path(start))
        load_loras(tower_loras(model.tower), deltas)
        load_projector(model.projector, deltas)
        model.projector.scale_to_words(pixel_shuffle(model.tower(sample)))
    else:
        model.projector.start_from(pixel_shuffle(model.tower(sample)))


def load_loras(loras: dict[str, LoraLinear], deltas: Deltas) -> None:
    """Set the matrices to the stored ones, whatever scale those were stored with."""
    for name, lora in loras.items():
        stored = deltas.loras[name]
        lora.a.copy_(torch.from_numpy(stored.a))
        lora.b.copy_(torch.from_numpy(stored.rows[:, None] * stored.b * (stored.scale / lora.scale)))


def load_projector(projector: Projector, deltas: Deltas) -> None:
    """Set the projector to the stored one."""
    for name, value in deltas.projector.items():
        projector.get_parameter(name.split(".")[1]).copy_(torch.from_numpy(value))


def length_penalty(tokens: Tensor) -> Tensor:
    """Mean squared log of the tokens' length over that of a word embedding."""
    return (tokens.norm(dim=-1).clamp_min(1e-6) / EMBEDDING_NORM).log().square().mean()


def batch_loss(model: ImageModel, features: Tensor, labels: list[FaceLabels], settings: ImageStage) -> Tensor:
    """Loss of the heads with some tokens left out, and of the tokens' length."""
    tokens = model.tokens(features)
    keep = (torch.rand(tokens.shape[:2]) > settings.token_dropout).to(tokens.device)
    loss = stage_loss(model.heads(tokens * keep[..., None]), targets(labels, settings))
    return loss + settings.length_weight * length_penalty(tokens)
