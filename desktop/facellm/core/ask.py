"""A question to a face and what comes back."""

from __future__ import annotations

from dataclasses import dataclass

#: A longer question would push the picture out of a context of 2048 tokens.
MOST_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Question:
    """``text`` as the user wrote it; with ``choices`` the answer is one of them, each with a probability.

    ``stated``: the text lists the choices itself, in a benchmark's own layout; nothing is added to it.
    """

    text: str
    choices: tuple[str, ...] = ()
    stated: bool = False


@dataclass(frozen=True, slots=True)
class ChoiceProbability:
    """Probability 0..1 of one choice; those of an answer sum to 1."""

    text: str
    p: float


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds, measured in the engine. ``encode_s`` is 0.0 when the picture was already encoded."""

    encode_s: float = 0.0
    first_token_s: float = 0.0
    tokens: int = 0
    tokens_per_s: float = 0.0
    prompt_tokens: int = 0
    image_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """``finish``: "end" (the model ended), "length" (token limit), "stopped" (by the user), "policy"
    (the text explains why the model was not asked), "lost" (the engine died; the text is what had come).
    ``note``: what a reader should know beside the text (see ``core.policy``), or "".
    """

    text: str
    timings: Timings
    finish: str = "end"
    choices: tuple[ChoiceProbability, ...] = ()
    logprobs: tuple[float, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """A question already answered, as context for the next one about the same picture."""

    question: str
    answer: str
