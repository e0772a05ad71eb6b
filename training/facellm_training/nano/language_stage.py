"""Second stage: the language model (LoRA) and the projector learn to answer from the image tokens.

The image tower and its heads go on learning slowly beside. The heads fill in attributes that a picture
has no weak label for, where they are confident; so most questions can be asked of every picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facellm.models.nano.deltas import read_deltas
from facellm_training.data.compare import comparisons
from facellm_training.data.labels import FaceLabels, held_out
from facellm_training.data.questions import Boost, boost_of, plain_questions, questions_for
from facellm_training.nano.cache import FeatureCache
from facellm_training.nano.image_stage import ImageModel, ImageStage, load_loras, load_projector, stage_loss, targets
from facellm_training.nano.language import Language
from facellm_training.nano.loop import Loop, run
from facellm_training.nano.sequence import Batch, Packed, Packer, collate, shuffled
from facellm_training.nano.tower import pixel_shuffle

#: Share of each age bin in FairFace's whole train split (86,744 pictures) over its share in the
#: part at hand, which keeps all of the youngest and oldest: the loss sees the natural distribution.
AGE_WEIGHT = (0.44, 1.22, 1.20, 1.25, 1.20, 1.25, 0.46, 0.46, 0.44)

#: The most answers that share an age question's mass with the right one: its neighbours.
SOFT = 2

#: Attributes that a head may fill in for unlabelled pictures, where it is this sure.
PROPAGATED = ("glasses", "facial_hair", "smile", "mouth", "hair_color", "hair_length", "headwear", "expression")
SURE = 0.88


@dataclass(frozen=True, slots=True)
class LanguageStage:
    """Settings of the second stage."""

    rank: int = 16
    alpha: float = 32.0
    pictures: int = 12000
    batch: int = 8
    questions: int = 6
    lora_lr: float = 1e-3
    projector_lr: float = 3e-4
    weight_decay: float = 0.01
    warmup_steps: int = 40
    #: Share of sequences that are one conversation, and that hold two or three pictures.
    chain_share: float = 0.15
    several_share: float = 0.10
    #: Share of the steps at the beginning that ask plain questions only, and how many a picture.
    plain_share: float = 0.3
    plain_questions: int = 8
    #: Share of the pictures drawn from those that have weak labels (a quarter of all have them).
    labelled_share: float = 0.5
    #: The tower's LoRA and the heads go on learning beside: their rates, and the weight of the heads' loss.
    tower_lr: float = 1e-4
    head_lr: float = 5e-4
    heads_weight: float = 0.1
    #: A deltas file whose projector and language LoRA are trained on.
    start: str = ""
    seed: int = 0
    bf16: bool = True


class NanoModel(nn.Module):
    """Image tokens into the language model."""

    def __init__(self, image: ImageModel, language: Language, head: list[int], heads_projector: nn.Module) -> None:
        """``heads_projector``: the projector that ``image.heads`` were trained with, apart from the one that the
        language model sees."""
        super().__init__()
        self.image, self.language = image, language
        self.head = head
        self.heads_projector = heads_projector

    def image_features(self, features: Tensor) -> Tensor:
        """Cached residual stream ``[n, 197, 768]`` → ``[n, 49, 3072]`` before the projector."""
        return pixel_shuffle(self.image.tower(features))

    def hidden(self, shuffled_features: Tensor, batch: Batch) -> Tensor:
        """Last hidden states ``[n, prefix + T, 576]``; ``shuffled_features [n, k, 49, 3072]``."""
        embed = self.language.embed
        tokens = self.image.projector(shuffled_features)
        ids, position, seen = (part.to(tokens.device) for part in (batch.ids, batch.position, batch.mask))
        head = embed(torch.tensor(self.head, device=tokens.device)).expand(len(tokens), -1, -1)
        return self.language(torch.cat([head, tokens.flatten(1, 2), embed(ids)], 1), position, seen)


def batch_loss(model: NanoModel, features: Tensor, batch: Batch) -> Tensor:
    """Weighted cross-entropy of the answers' tokens only; soft targets share the first token's mass."""
    wanted = batch.weight > 0
    hidden = model.hidden(features, batch)
    device = hidden.device
    rows, columns = wanted.nonzero(as_tuple=True)
    logp = F.log_softmax(model.language.logits(hidden[rows.to(device), (columns + batch.prefix - 1).to(device)]), -1)
    place = torch.zeros_like(batch.ids)
    place[wanted] = torch.arange(len(rows))
    share = torch.zeros(len(rows), 1 + SOFT)
    token = batch.ids[wanted][:, None].repeat(1, 1 + SOFT)
    share[:, 0] = 1
    for row, column, other, mass in batch.soft:
        index = place[row, column]
        slot = int((share[index, 1:] > 0).sum()) + 1
        token[index, slot], share[index, slot] = other, mass
        share[index, 0] -= mass
    loss = -(share.to(device) * logp.gather(1, token.to(device))).sum(1)
    weight = batch.weight[wanted].to(device)
    return (loss * weight).sum() / weight.sum()


@torch.no_grad()
def fill_in(labels: FaceLabels, probabilities: dict[str, Tensor], index: int) -> FaceLabels:
    """Add attributes that the heads are sure of and no label gives."""
    classes = dict(labels.classes)
    for task in PROPAGATED:
        if task not in classes:
            best = float(probabilities[task][index].max())
            if best >= SURE:
                classes[task] = int(probabilities[task][index].argmax())
    return FaceLabels(labels.file, labels.view, classes, labels.measured, labels.description)


def optimiser(model: NanoModel, settings: LanguageStage) -> torch.optim.AdamW:
    """AdamW with a rate for each part."""
    groups = [
        {"params": [p for p in model.language.parameters() if p.requires_grad], "lr": settings.lora_lr},
        {"params": list(model.image.projector.parameters()), "lr": settings.projector_lr},
        {"params": [p for p in model.image.tower.parameters() if p.requires_grad], "lr": settings.tower_lr},
        {"params": [*model.heads_projector.parameters(), *model.image.heads.parameters()], "lr": settings.head_lr},
    ]
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay, betas=(0.9, 0.98))


@dataclass(frozen=True, slots=True)
class Asking:
    """What a batch is made with: the cache and its labels, the packer, the settings, and the padding token."""

    cache: FeatureCache
    labels: list[FaceLabels]
    packer: Packer
    settings: LanguageStage
    pad: int
    boost: Boost


def step_loss(model: NanoModel, asking: Asking, rows: list[int], rng: Random, *, plain: bool = False) -> Tensor:
    """Loss of the answers about the pictures in ``rows``, and of the heads beside."""
    features = model.image_features(asking.cache.read(rows, model.image.device))
    logits = model.image.heads(model.heads_projector(features))
    probabilities = {task: logits[task].detach().softmax(-1).cpu() for task in PROPAGATED}
    known = [fill_in(asking.labels[row], probabilities, i) for i, row in enumerate(rows)]
    packed = pack_questions(known, asking, rng, plain=plain)
    batch = collate(packed, len(asking.packer.head), asking.pad)
    loss = batch_loss(model, torch.stack([features[item.images] for item in packed]), batch)
    wanted = targets([asking.labels[row] for row in rows], ImageStage())
    return loss + asking.settings.heads_weight * stage_loss(logits, wanted)


def pack_questions(known: list[FaceLabels], asking: Asking, rng: Random, *, plain: bool) -> list[Packed]:
    """Questions about each picture, or now and then about several; all with the same number of pictures."""
    settings, packer = asking.settings, asking.packer
    if not plain and rng.random() < settings.several_share:
        several = pack_comparisons(known, packer, rng)
        if several:
            return several
    packed = []
    for i, face in enumerate(known):
        chain = not plain and rng.random() < settings.chain_share
        ask, count = (plain_questions, settings.plain_questions) if plain else (questions_for, settings.questions)
        samples = ask(face, rng, count, asking.boost)
        packed.append(packer.pack([i], samples[:5] if chain else samples, [face.classes["age"]], chain=chain))
    return packed


def pack_comparisons(known: list[FaceLabels], packer: Packer, rng: Random) -> list[Packed]:
    """Groups of two or three of the pictures; none where the labels allow no question."""
    several = rng.choice((2, 3))
    packed = []
    for _ in range(max(2, len(known) // several)):
        group = shuffled(list(range(len(known))), rng)[:several]
        faces = [known[i] for i in group]
        samples = comparisons(faces, rng, 4)
        if samples:
            packed.append(packer.pack(group, samples, [face.classes["age"] for face in faces], chain=False))
    return packed


@torch.no_grad()
def begin(model: NanoModel, start: str) -> None:
    """Take projector and language LoRA from earlier deltas."""
    deltas = read_deltas(Path(start))
    load_loras(model.language.loras(), deltas)
    load_projector(model.image.projector, deltas)


def draw_rows(labels: list[FaceLabels], settings: LanguageStage) -> list[int]:
    """Rows of the cache in the order of training; none of a held-out picture."""
    rng = Random(settings.seed)
    rows = [i for i, item in enumerate(labels) if not held_out(item.file)]
    parts = (
        ([i for i in rows if "glasses" in labels[i].classes], round(settings.labelled_share * settings.pictures)),
        ([i for i in rows if "glasses" not in labels[i].classes], settings.pictures),
    )
    drawn: list[int] = []
    for part, until in parts:
        missing = until - len(drawn)
        repeated = [row for _ in range(math.ceil(missing / max(1, len(part)))) for row in shuffled(part, rng)]
        drawn += repeated[:missing]
    return shuffled(drawn, rng)


def train(
    model: NanoModel, packer: Packer, pad: int, cache: FeatureCache, labels: list[FaceLabels],
    settings: LanguageStage, out: Path,
) -> None:  # fmt: skip
    """Train and save ``out/language.pt`` (resumable); metrics go to ``out/language.jsonl``."""
    order = draw_rows(labels, settings)
    asking = Asking(cache, labels, packer, settings, pad, boost_of(labels))
    if settings.start and not (out / "language.pt").exists():
        begin(model, settings.start)

    def loss_of(step: int) -> Tensor:
        part = sorted(order[step * settings.batch : (step + 1) * settings.batch])
        rng = Random(settings.seed * 1_000_003 + step)
        return step_loss(model, asking, part, rng, plain=step < settings.plain_share * steps)

    steps = settings.pictures // settings.batch
    plan = Loop("language", out, steps, settings.batch, settings.warmup_steps, seed=settings.seed)
    run(plan, model, optimiser(model, settings), loss_of)
