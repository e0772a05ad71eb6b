"""Between the stages: the projector learns to say what it shows in the language model's own words.

Each task reads the image tokens through one learned query and compares what it finds with the embeddings of the
class names ("male", "beard", "slight smile"), which stay fixed. Afterwards a token is close to a mixture of words
that the language model knows, instead of a code of the heads' own. It costs two minutes on two cores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from facellm_training.data import wording
from facellm_training.data.labels import TASKS, FaceLabels, held_out
from facellm_training.nano.cache import FeatureCache
from facellm_training.nano.image_stage import ImageModel, ImageStage, length_penalty, stage_loss, targets
from facellm_training.nano.language import Language
from facellm_training.nano.loop import Loop, run
from facellm_training.nano.projector import OUTPUT
from facellm_training.nano.sequence import Tokenizer
from facellm_training.nano.tower import pixel_shuffle


@dataclass(frozen=True, slots=True)
class WordStage:
    """Settings of the stage; only the projector and the queries are trained."""

    pictures: int = 6400
    batch: int = 32
    projector_lr: float = 1e-3
    query_lr: float = 5e-3
    weight_decay: float = 0.01
    warmup_steps: int = 20
    length_weight: float = 1.0
    seed: int = 3


class WordHeads(nn.Module):
    """One query a task; class scores are products with the class names' embeddings, centred and of length 1."""

    def __init__(self, language: Language, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.query = nn.ParameterDict({task: nn.Parameter(torch.zeros(OUTPUT)) for task in TASKS})
        self.scale = nn.ParameterDict({task: nn.Parameter(torch.tensor(1.5)) for task in TASKS})
        self.bias = nn.ParameterDict({task: nn.Parameter(torch.zeros(len(names))) for task, names in TASKS.items()})
        for task in TASKS:
            self.register_buffer(f"words_{task}", class_words(task, language, tokenizer), persistent=False)

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """``tokens`` ``[batch, 49, 576]`` → logits per task."""
        out = {}
        for task in TASKS:
            weight = (tokens @ self.query[task] / math.sqrt(OUTPUT)).softmax(-1)
            found = (weight[..., None] * tokens).sum(1)
            out[task] = self.scale[task].exp() * found @ self.get_buffer(f"words_{task}").T + self.bias[task]
        return out


def class_words(task: str, language: Language, tokenizer: Tokenizer) -> Tensor:
    """Embeddings of a task's class names, ``[classes, 576]``: means over their tokens, without what they share."""
    names = [wording.option_text(task, index) for index in range(len(TASKS[task]))]
    ids = [torch.tensor(tokenizer(f" {name}", add_special_tokens=False)["input_ids"]) for name in names]
    vectors = torch.stack([language.words[row].mean(0) for row in ids])
    vectors = vectors - vectors.mean(0)
    return vectors / vectors.norm(dim=-1, keepdim=True)


class WordModel(nn.Module):
    """What this stage trains: the projector and the word heads over the frozen tower."""

    def __init__(self, image: ImageModel, heads: WordHeads) -> None:
        super().__init__()
        self.projector, self.heads = image.projector, heads


def train(
    image: ImageModel, heads: WordHeads, cache: FeatureCache, labels: list[FaceLabels], settings: WordStage, out: Path
) -> None:
    """Train ``image.projector`` in place; state in ``out/words.pt`` (resumable), metrics in ``out/words.jsonl``."""
    rows = np.array([i for i, item in enumerate(labels) if not held_out(item.file)])
    order = np.random.default_rng(settings.seed).permutation(rows)
    model = WordModel(image, heads.to(image.device))
    smoothing = ImageStage()

    def loss_of(step: int) -> Tensor:
        part = np.sort(order[step * settings.batch : (step + 1) * settings.batch])
        with torch.no_grad():
            features = pixel_shuffle(image.tower(cache.read(part, image.device)))
        tokens = model.projector(features)
        loss = stage_loss(model.heads(tokens), targets([labels[i] for i in part], smoothing))
        return loss + settings.length_weight * length_penalty(tokens)

    groups = [
        {"params": list(model.projector.parameters()), "lr": settings.projector_lr},
        {"params": list(model.heads.parameters()), "lr": settings.query_lr},
    ]
    optim = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, betas=(0.9, 0.98))
    steps = min(settings.pictures, len(rows)) // settings.batch
    run(Loop("words", out, steps, settings.batch, settings.warmup_steps, seed=settings.seed), model, optim, loss_of)
