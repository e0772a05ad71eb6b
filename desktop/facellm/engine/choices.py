"""Closed questions: how likely the model would answer each option's key, without generating anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from facellm.core.ask import Answer, ChoiceProbability, Question, Timings
from facellm.core.prompt import choice_keys
from facellm.engine.prompts import Prompt, Vocabulary
from facellm.engine.sampling import log_softmax

#: Token ids to decode after the common head, and how many of the last places' logits are wanted.
Tail: TypeAlias = tuple[list[int], int]


@dataclass(frozen=True, slots=True)
class Ballot:
    """A closed question ready to be scored. ``forms``: for each choice the token ids of each way to say its key."""

    question: Question
    prompt: Prompt
    forms: tuple[tuple[tuple[int, ...], ...], ...]

    def tails(self) -> list[Tail]:
        """What to decode: the question, and again with each key that takes more than one token."""
        question = [item for item in self.prompt.items[self.prompt.head :] if isinstance(item, int)]
        longer = [form for forms in self.forms for form in forms if len(form) > 1]
        return [(question, 1), *((question + list(form[:-1]), len(form)) for form in longer)]

    def answer(self, rows: Sequence[Sequence[NDArray[np.float32]]], temperature: float, timings: Timings) -> Answer:
        """``rows``: logits for each of :meth:`tails`. The answer's log-probability is that of its key.

        Probability of a choice: softmax over the keys' log-probabilities divided by ``temperature``.
        """
        first = log_softmax(rows[0][0])
        further = iter(rows[1:])
        scores = []
        for forms in self.forms:
            ways = [
                float(first[form[0]]) if len(form) == 1 else _said(form, next(further))
                for form in forms
            ]  # fmt: skip
            scores.append(float(np.logaddexp.reduce(ways)))
        scaled = np.array(scores) / temperature
        weights = np.exp(scaled - scaled.max())
        p = weights / weights.sum()
        best = int(p.argmax())
        choices = tuple(ChoiceProbability(text, float(x)) for text, x in zip(self.question.choices, p, strict=True))
        return Answer(self.question.choices[best], timings, "end", choices, (scores[best],))


def ballot(question: Question, prompt: Prompt, vocabulary: Vocabulary) -> Ballot:
    """A key that is a word counts with and without a capital: models are taught "Yes, …" and asked yes or no."""
    forms = []
    for key in choice_keys(question.choices):
        ways = {key} if len(key) == 1 else {key, key.capitalize()}
        forms.append(tuple(sorted({_key_tokens(way, prompt.tail, vocabulary) for way in ways})))
    return Ballot(question, prompt, tuple(forms))


def _key_tokens(key: str, tail: str, vocabulary: Vocabulary) -> tuple[int, ...]:
    """Tokens that ``key`` adds to what stands before it ("assistant" and a line end, mostly)."""
    before = vocabulary.literal(tail)
    whole = vocabulary.literal(tail + key)
    return tuple(whole[len(before) :] if whole[: len(before)] == before else vocabulary.literal(key))


def _said(form: Sequence[int], rows: Sequence[NDArray[np.float32]]) -> float:
    return sum(float(log_softmax(row)[token]) for token, row in zip(form, rows, strict=True))
