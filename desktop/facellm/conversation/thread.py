"""What was asked about one face, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from facellm.core.ask import Answer, Question, Turn

#: Of a long thread the model gets the newest turns that fit in this many characters: about 800
#: tokens of English, which with a picture of 256 tokens and an answer of 256 stay below a context of 2048.
HISTORY_CHARACTERS = 2400


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question about the faces ``labels`` and its answer.

    ``question`` is what the user wrote, ``asked`` what the policy made of it ("" when refused),
    ``prompt`` the exact text the model received ("" when it received none).
    """

    labels: tuple[str, ...]
    question: Question
    asked: str
    answer: Answer
    prompt: str = ""

    @property
    def turn(self) -> Turn | None:
        """As context for the next question; ``None`` where it would be none.

        Refusals were never said by the model, answers of a lost engine may end anywhere, and closed
        questions are independent measurements that must not depend on each other's outcome. A
        stopped answer stays: it is what the user has read.
        """
        if self.question.choices or not self.answer.text.strip() or self.answer.finish in ("policy", "lost"):
            return None
        return Turn(self.asked, self.answer.text)


def turns(thread: Sequence[Exchange], budget: int = HISTORY_CHARACTERS) -> tuple[Turn, ...]:
    """The newest turns of a thread, oldest first, of together at most ``budget`` characters."""
    kept: list[Turn] = []
    for exchange in reversed(thread):
        turn = exchange.turn
        if turn is None:
            continue
        budget -= len(turn.question) + len(turn.answer)
        if budget < 0:
            break
        kept.append(turn)
    return tuple(reversed(kept))
