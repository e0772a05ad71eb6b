"""How a question is put to the model. Training and the product use these same functions."""

from __future__ import annotations

import string

YES_NO = ("yes", "no")


def choice_keys(choices: tuple[str, ...]) -> tuple[str, ...]:
    """What the model may answer, one short key per choice: the words yes/no themselves, else letters A, B, C, …

    Raises ``ValueError`` for fewer than 2 or more than 26 choices, or equal ones.
    """
    if not 2 <= len(choices) <= len(string.ascii_uppercase):
        raise ValueError(f"a question takes 2 to 26 choices, got {len(choices)}")
    lowered = tuple(" ".join(choice.split()).lower() for choice in choices)
    if len(set(lowered)) != len(lowered) or "" in lowered:
        raise ValueError("choices must be different and not empty")
    if set(lowered) == set(YES_NO):
        return lowered
    return tuple(string.ascii_uppercase[: len(choices)])


def user_text(question: str, choices: tuple[str, ...] = ()) -> str:
    """The user's turn after the picture: the question, and with letters one line per choice."""
    question = question.strip()
    if not choices:
        return question
    keys = choice_keys(choices)
    if set(keys) == set(YES_NO):
        return question
    # One choice, one line: a line break inside a choice would look like a further choice.
    lines = [f"{key}) {' '.join(choice.split())}" for key, choice in zip(keys, choices, strict=True)]
    return "\n".join([question, *lines])
