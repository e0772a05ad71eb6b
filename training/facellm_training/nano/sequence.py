"""Packs pictures and questions into one sequence each, with the mask that keeps questions apart.

A sequence is an image prefix followed by question blocks. Independent questions all see the
prefix and none of each other, and their positions restart after it: exactly what the engine does
when it keeps a picture's KV state and asks a second question. A conversation is one block.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Protocol

import torch
from torch import Tensor

from facellm_training.data.questions import Sample

IMAGE_TOKENS = 49
END = "<|im_end|>"


class Tokenizer(Protocol):
    """What packing needs of a tokenizer."""

    def __call__(self, text: str, add_special_tokens: bool = ...) -> dict[str, list[int]]: ...


@dataclass(slots=True)
class Packed:
    """One sequence. ``ids``: text after the prefix; ``weight``: loss weight of each token as a *target*."""

    images: list[int]
    ids: list[int]
    position: list[int]
    block: list[int]
    weight: list[float]
    soft: list[tuple[int, int, float]]


class Packer:
    """Tokenises samples the way the engine renders them."""

    #: A closed answer is one letter; its end mark is learned at once and would only dilute the loss.
    END_WEIGHT = 0.1
    #: Every word of an answer in words. Most are soon known by heart and pull no longer; those that remain tell what is
    #: seen. Weighed by their answer's length instead, they taught so little that after 2,400 pictures only the age,
    #: the most asked of all, was read from the picture.
    WORD_WEIGHT = 0.4

    def __init__(self, tokenizer: Tokenizer, age_weight: tuple[float, ...]) -> None:
        self.tokenizer = tokenizer
        self.head = self.encode("<|im_start|>user\n")
        self.age_weight = age_weight

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def pack(self, images: list[int], samples: list[Sample], ages: list[int], *, chain: bool) -> Packed:
        """``chain``: the samples become turns of one conversation; otherwise each is a block of its own."""
        packed = Packed(images, [], [], [], [], [])
        start = len(self.head) + IMAGE_TOKENS * len(images)
        position = start
        for number, sample in enumerate(samples):
            opening = "\n" if number == 0 or not chain else "\n<|im_start|>user\n"
            question = self.encode(f"{opening}{sample.text}{END}\n<|im_start|>assistant\n")
            answer = [*self.encode(sample.answer), *self.encode(END)]
            position = position if chain else start
            scale = self.age_weight[ages[0]] if sample.task == "age" and len(ages) == 1 else 1.0
            packed.soft += self._soft(sample, len(packed.ids) + len(question))
            packed.ids += question + answer
            packed.weight += [0.0] * len(question) + self._weights(sample, len(answer), scale)
            packed.block += [1 if chain else number + 1] * (len(question) + len(answer))
            packed.position += range(position, position + len(question) + len(answer))
            position += len(question) + len(answer)
        return packed

    def _weights(self, sample: Sample, tokens: int, scale: float) -> list[float]:
        if sample.form == "letters":
            return [scale, *[self.END_WEIGHT] * (tokens - 1)]
        first = 1.0 if sample.form in ("short", "yes/no") else self.WORD_WEIGHT
        return [scale * first, *[scale * self.WORD_WEIGHT] * (tokens - 1)]

    def _soft(self, sample: Sample, place: int) -> list[tuple[int, int, float]]:
        return [(place, self.encode(answer)[0], share) for answer, share in sample.soft.items()]


@dataclass(frozen=True, slots=True)
class Batch:
    """``images [n, k]`` rows of the feature cache; ``ids``, ``position [n, P+T]``; ``mask [n, 1, P+T, P+T]`` bool."""

    images: list[list[int]]
    ids: Tensor
    position: Tensor
    mask: Tensor
    weight: Tensor
    soft: list[tuple[int, int, int, float]]
    prefix: int


def collate(packed: list[Packed], head: int, pad: int) -> Batch:
    """Pad sequences with the same number of pictures to one batch."""
    count, longest = len(packed), max(len(item.ids) for item in packed)
    prefix = head + IMAGE_TOKENS * len(packed[0].images)
    ids = torch.full((count, longest), pad)
    position = torch.zeros(count, longest, dtype=torch.long)
    block = torch.full((count, longest), -1)
    weight = torch.zeros(count, longest)
    soft = []
    for row, item in enumerate(packed):
        n = len(item.ids)
        ids[row, :n] = torch.tensor(item.ids)
        position[row, :n] = torch.tensor(item.position)
        block[row, :n] = torch.tensor(item.block)
        weight[row, :n] = torch.tensor(item.weight)
        soft += [(row, place, token, share) for place, token, share in item.soft]
    block = torch.cat([torch.zeros(count, prefix, dtype=torch.long), block], 1)
    position = torch.cat([torch.arange(prefix).expand(count, -1), position], 1)
    total = prefix + longest
    mask = torch.tril(torch.ones(total, total, dtype=torch.bool))[None]
    mask = mask & ((block[:, None, :] == 0) | (block[:, :, None] == block[:, None, :]))
    return Batch([item.images for item in packed], ids, position, mask[:, None], weight, soft, prefix)


def shuffled(rows: list[int], rng: Random) -> list[int]:
    """A new order of ``rows``."""
    order = list(rows)
    rng.shuffle(order)
    return order
