"""Between the letters that a user sees on faces and the numbers that a model knows its pictures by.

A question about several faces gives the model several pictures, which training calls "Image 1",
"Image 2", … (``facellm_training.data.compare``). The letters exist in our overlay only.
"""

from __future__ import annotations

import re
from dataclasses import replace

from facellm.core.ask import Answer, ChoiceProbability


def image_name(index: int) -> str:
    """0 → "Image 1"."""
    return f"Image {index + 1}"


def to_images(text: str, labels: tuple[str, ...]) -> str:
    """Say "Image 1" where the text says "face A", "person A" or "A", the first of ``labels``.

    "A" opening a text is an article unless a comparing word follows ("A or B?").
    """
    for index, label in enumerate(labels):
        bare = rf"(?<!^)\b{label}\b|^{label}\b(?=\s*(?:$|,|/|and\b|or\b|is\b|has\b|looks?\b|wears?\b))"
        named = rf"\b(?:[Ff]ace|[Pp]erson|[Pp]icture|[Pp]hoto) {label}\b"
        text = re.sub(named if label == "I" else f"{named}|{bare}", image_name(index), text)
    return text


def legend(labels: tuple[str, ...]) -> str:
    """What the reader of an answer about several pictures must know."""
    return ", ".join(f"{image_name(index)} is face {label}" for index, label in enumerate(labels)) + "."


def to_letters(answer: Answer, asked: tuple[str, ...], written: tuple[str, ...]) -> Answer:
    """The answer in the user's words: each of the choices ``asked`` stands for the one ``written`` at its place."""
    words = dict(zip(asked, written, strict=True))
    choices = tuple(ChoiceProbability(words.get(choice.text, choice.text), choice.p) for choice in answer.choices)
    return replace(answer, text=words.get(answer.text, answer.text), choices=choices)
