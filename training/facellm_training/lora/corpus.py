"""All conversations of a run as tokens: what is trained on, what is held out, and what was left out and why."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from facellm_training.lora.collate import Batch, packed, padded
from facellm_training.lora.conversations import Conversation, DataError, read_conversations
from facellm_training.lora.images import Tiles, read_tile
from facellm_training.lora.packing import Pass
from facellm_training.lora.recipe import Data
from facellm_training.lora.template import SILENT, Closed, Encoded, Template

Tell = Callable[[str], None]
Value = TypeVar("Value")


@dataclass(slots=True)
class Part:
    """Conversations and their tokens, in the same order."""

    conversations: list[Conversation] = field(default_factory=list)
    encoded: list[Encoded] = field(default_factory=list)
    _lengths: list[int] = field(default_factory=list, repr=False)

    @property
    def lengths(self) -> list[int]:
        """In tokens; counted once, for every step asks for them."""
        if len(self._lengths) != len(self.encoded):
            self._lengths = [len(one) for one in self.encoded]
        return self._lengths

    @property
    def images(self) -> list[Path]:
        """Of all of them, with repetitions."""
        return [image for one in self.conversations for image in one.images]


@dataclass(slots=True)
class Corpus:
    """``closed``: the held-out closed questions. ``dropped``: how many conversations were left out, by reason.
    ``digest``: of the files that were read."""

    train: Part
    held: Part
    closed: list[tuple[Conversation, Closed]]
    dropped: Counter[str]
    digest: str

    def fingerprint(self) -> str:
        """Of what is trained on and what is held out, in order: two runs on the same have the same numbers, wherever
        the files lie and whatever limit left all of it in."""
        found = hashlib.sha256(self.digest.encode())
        for part in (self.train, self.held):
            for conversation, encoded in zip(part.conversations, part.encoded, strict=True):
                found.update(f"{conversation.id} {len(encoded)} {encoded.supervised}\n".encode())
        return found.hexdigest()


def read_corpus(data: Data, template: Template, items: int, seed: int, tell: Tell) -> Corpus:
    """Read, check, encode and divide. At most ``items`` held-out conversations and closed questions are kept.

    Raises ``DataError`` at faulty conversations (``data.faulty`` "stop"), and where nothing is left to train on.
    """
    dropped: Counter[str] = Counter()
    train, digest = _read(data.path, data.name, data, template, dropped)
    if data.evaluate is not None:
        held, other = _read(data.evaluate, "", data, template, dropped)
        digest += f", {other}"
    else:
        train, held = _divide(train, data.held_out, seed, dropped)
    if not train.encoded:
        raise DataError(
            f"No conversation of {data.path} is left to train on.",
            "Lower data.held_out: so many pictures are kept for measuring." if held.encoded else "",
        )
    closed = [(one, found) for one in held.conversations if one.choices and (found := template.closed(one)) is not None]
    tell(f"{len(train.encoded)} conversations to train on, {len(held.encoded)} held out, {len(closed)} of them closed")
    return Corpus(train, _some(held, items, seed), _sample(closed, items, seed), dropped, digest)


def _read(path: Path, name: str, data: Data, template: Template, dropped: Counter[str]) -> tuple[Part, str]:
    found = read_conversations(path, name)
    part, faulty, seen = Part(), list(found.faulty), set[Path]()
    for conversation in found.conversations:
        try:
            encoded = template.encode(conversation)
            for image in conversation.images if data.faulty == "skip" else ():
                if image not in seen:  # else the cache's making, or the step that needs it, says so and stops
                    read_tile(image, 1)
                    seen.add(image)
        except DataError as error:
            faulty.append(str(error))
            continue
        part.conversations.append(conversation)
        part.encoded.append(encoded)
    if faulty and data.faulty == "stop":
        raise DataError(
            f"{path}: {len(faulty)} of {len(faulty) + len(part.encoded)} conversations cannot be used. " + faulty[0],
            'Mend them, or leave them out with data.faulty: "skip".',
        )
    dropped.update(_reason(text) for text in faulty)
    return part, found.digest


def _reason(sentence: str) -> str:
    """The sentence without what differs from one conversation to the next."""
    shorter = re.sub(r"^Conversation \S+?:? |the picture \S+ | in /\S+", "", sentence)
    return re.sub(r"\d+", "N", shorter)


def _divide(part: Part, count: int, seed: int, dropped: Counter[str]) -> tuple[Part, Part]:
    """Hold ``count`` pictures out: no conversation about one of them is trained on."""
    images = sorted(set(part.images))
    chosen = np.random.default_rng([seed, 1]).permutation(len(images))[: max(0, count)]
    out = {images[place] for place in chosen}
    train, held = Part(), Part()
    for conversation, encoded in zip(part.conversations, part.encoded, strict=True):
        outside = [image in out for image in conversation.images]
        if any(outside) and not all(outside):
            dropped["shows a held-out picture beside another"] += 1
            continue
        into = held if all(outside) else train
        into.conversations.append(conversation)
        into.encoded.append(encoded)
    return train, held


def _some(part: Part, count: int, seed: int) -> Part:
    chosen = _sample(list(range(len(part.encoded))), count, seed)
    return Part([part.conversations[one] for one in chosen], [part.encoded[one] for one in chosen])


def _sample(values: Sequence[Value], count: int, seed: int) -> list[Value]:
    order = np.random.default_rng([seed, 2]).permutation(len(values))[:count]
    return [values[place] for place in sorted(order)]


@dataclass(frozen=True, slots=True)
class Layout:
    """How rows become tensors. ``fill``: packed rows are padded up to so many tokens; 0: not."""

    packing: bool
    fill: int
    pad: int


class Rows(torch.utils.data.Dataset[Batch]):
    """Gives the batch of a pass. Used by the loader's processes."""

    def __init__(self, part: Part, tiles: Tiles, layout: Layout) -> None:
        self._part, self._tiles, self._layout = part, tiles, layout

    def __getitem__(self, rows: Pass) -> Batch:
        part = self._part
        sequences = [[(part.encoded[one].ids, part.encoded[one].labels) for one in row] for row in rows]
        tiles = [self._tiles(image) for row in rows for one in row for image in part.conversations[one].images]
        if self._layout.packing:
            return packed(sequences, tiles, pad=self._layout.pad, fill=self._layout.fill)
        return padded([row[0] for row in sequences], tiles, pad=self._layout.pad)


def closed_part(closed: Sequence[tuple[Conversation, Closed]]) -> Part:
    """The closed questions with the right key behind them, its place the only one that predicts something."""
    encoded = []
    for conversation, question in closed:
        ids = np.append(question.ids, question.keys[question.right]).astype(np.int32)
        labels = np.full(len(ids), SILENT, np.int32)
        labels[-1] = ids[-1]
        encoded.append(Encoded(ids, labels, len(conversation.images)))
    return Part([conversation for conversation, _ in closed], encoded)
