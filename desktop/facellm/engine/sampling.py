"""From logits to tokens: probabilities, the next token, and when a small model has begun to go in circles."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Temperature > 0 draws from the likeliest tokens that together hold this much, …
TOP_P = 0.95
#: … none of them less likely than this share of the likeliest (llama.cpp's own defaults for both).
MIN_P = 0.05

#: An answer is cut off when its last tokens are one phrase, of at most this many tokens, …
LOOP_PHRASE = 24
#: … said this many times in a row …
LOOP_TIMES = 4
#: … over at least this many tokens. No sentence does that, while a small model that has begun to does not stop.
LOOP_TOKENS = 20


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-probabilities ``[vocabulary]``."""
    shifted = logits - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum(dtype=np.float64)), np.float32)


def draw(logprobs: NDArray[np.float32], temperature: float, rng: np.random.Generator) -> int:
    """The likeliest token at temperature 0 (or less), otherwise a random one of the likelier ones."""
    best = int(logprobs.argmax())
    if temperature <= 0:
        return best
    kept = np.flatnonzero(logprobs >= logprobs[best] + np.log(MIN_P))
    kept = kept[np.argsort(-logprobs[kept], kind="stable")]
    p = np.exp(logprobs[kept].astype(np.float64))
    kept = kept[: int(np.searchsorted(np.cumsum(p) / p.sum(), TOP_P)) + 1]
    weights = np.exp((logprobs[kept].astype(np.float64) - logprobs[best]) / temperature)
    return int(rng.choice(kept, p=weights / weights.sum()))


def goes_in_circles(tokens: Sequence[int]) -> bool:
    """Whether the end of ``tokens`` is one phrase over and over. Small models sometimes never stop by themselves."""
    for length in range(1, LOOP_PHRASE + 1):
        span = length * max(LOOP_TIMES, -(-LOOP_TOKENS // length))
        end = tokens[-span:]
        if len(end) == span and all(end[i] == end[i - length] for i in range(length, span)):
            return True
    return False


class Spelling:
    """Joins the bytes of tokens to whole characters: a token may end in the middle of one."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = False

    def add(self, piece: bytes) -> str:
        """What can be shown after this token, "" while a character is incomplete; no white space comes first."""
        text = self._decoder.decode(piece)
        if not self._begun:
            text = text.lstrip()
        self._begun = self._begun or bool(text)
        return text
