"""What a run will cost, and what it may."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from facellm.core.errors import FaceLLMError
from facellm_training.annotate.asking import Request
from facellm_training.annotate.journal import Reply
from facellm_training.annotate.recipe import AnnotateRecipe

#: Characters a token of English text, and tokens that a chat's format adds: coarse, for estimates only.
_CHARS, _FRAME = 4.0, 20


class BudgetReached(FaceLLMError):
    """One more request could cost more than the budget leaves."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of requests still to be asked; ``dollars`` expected, ``most`` at worst, ``seconds`` in live mode."""

    requests: int
    pictures: int
    prompt_tokens: int
    completion_tokens: int
    dollars: float
    most: float
    seconds: float


class Money:
    """Prices of a recipe, in its mode."""

    def __init__(self, recipe: AnnotateRecipe) -> None:
        prices = recipe.prices
        share = prices.batch_share if recipe.mode == "batch" else 1.0
        self._prompt, self._completion = share * prices.prompt / 1e6, share * prices.completion / 1e6
        self._recipe = recipe

    def prompt_tokens(self, request: Request) -> int:
        return round(self._recipe.prices.image_tokens + request.text_length() / _CHARS + _FRAME)

    def most(self, request: Request) -> float:
        """Dollars for one request that is answered at full length."""
        # A tenth more: the number of tokens in a prompt is estimated.
        return 1.1 * self.prompt_tokens(request) * self._prompt + self._recipe.teacher.max_tokens * self._completion

    def cost(self, reply: Reply) -> float:
        """Dollars for an answer, from the server's own count of tokens."""
        return reply.prompt_tokens * self._prompt + reply.completion_tokens * self._completion

    def affordable(self, spent: float, request: Request) -> bool:
        """Whether the request keeps within the budget even at its worst."""
        return spent + self.most(request) <= self._recipe.prices.budget + 1e-9

    def estimate(self, requests: Iterable[Request]) -> Estimate:
        asked = list(requests)
        prompt = sum(map(self.prompt_tokens, asked))
        completion = len(asked) * min(self._recipe.prices.answer_tokens, self._recipe.teacher.max_tokens)
        dollars = prompt * self._prompt + completion * self._completion
        pace, prices = self._recipe.pace, self._recipe.prices
        seconds = len(asked) * max(60 / pace.per_minute, prices.seconds / pace.concurrency)
        pictures = len({request.picture.digest for request in asked})
        return Estimate(len(asked), pictures, prompt, completion, dollars, sum(map(self.most, asked)), seconds)

    def reached(self, spent: float, left: int) -> BudgetReached:
        return BudgetReached(
            f"The budget of ${self._recipe.prices.budget:,.2f} is reached: ${spent:,.2f} are spent or promised, "
            f"{left} requests are left.",
            "Raise prices.budget in the recipe, or give --budget, and run the command again; nothing is asked twice.",
        )


def duration(seconds: float) -> str:
    """ "40 s", "12 min", "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
