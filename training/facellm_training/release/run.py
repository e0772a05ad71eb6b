"""From a recipe to models in the desktop's list: train what is missing, merge, convert, compare, evaluate, describe."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from facellm.core.errors import FaceLLMError
from facellm_converters.convert import TEXT_KINDS
from facellm_training.evaluate import asking
from facellm_training.lora.bases import located
from facellm_training.lora.recipe import LoraRecipe
from facellm_training.lora.report import RECORD
from facellm_training.lora.run import HELD_OUT, train_lora
from facellm_training.progress import percent
from facellm_training.recipe import RecipeError
from facellm_training.release.card import model_card, summary
from facellm_training.release.measured import BASE, Measured, check_data, measure
from facellm_training.release.pairs import Pair, Tell, Wanted, make_pair

RELEASE = "release.md"
#: Below the recipe's ``out``: what is only compared with, the evaluations, and what was made from what.
FOLDER = "release"


class NotReleased(FaceLLMError):
    """A converted pair does not answer as the trained checkpoint does."""


@dataclass(frozen=True, slots=True)
class Released:
    """``pairs``: those offered; ``measured``: all evaluations, of them and what they are compared with."""

    pairs: tuple[Pair, ...]
    measured: tuple[Measured, ...]


def release(recipe: LoraRecipe, name: str, place: Callable[[str], Path], tell: Tell, asked: asking.Tell) -> Released:
    """Train (or finish, or take as it is), then a pair for each of ``recipe.release.quants``; see ``recipe.Release``.

    ``place`` gives the folder of a model's name; pairs that are there are replaced. Writes ``release.md`` into the
    recipe's ``out`` and a card beside each pair. A killed release goes on. Raises ``NotReleased`` where a pair fails
    the comparison, and what training, converting and evaluating raise.
    """
    check_kinds(recipe)
    check_data(recipe.release)
    adapter = train_lora(recipe, tell)
    base = located(recipe, percent(tell), tell)
    inside = recipe.out / FOLDER
    pairs = [make_pair(wanted, inside, tell) for wanted in _wanted(recipe, name, base, adapter, place)]
    _check_equal(recipe, name, pairs)
    measured = measure(pairs, recipe.out / HELD_OUT, recipe.release, inside, asked)
    offered = tuple(pair for pair in pairs if pair.offered)
    run = json.loads((recipe.out / RECORD).read_text("utf-8"))
    for pair in offered:
        _replace(pair.card, model_card(pair, run, measured, pairs))
    _replace(recipe.out / RELEASE, summary(name, recipe.base, pairs, measured))
    return Released(offered, tuple(measured))


def check_kinds(recipe: LoraRecipe) -> None:
    """Raises ``RecipeError`` for a ``release`` that no pair can be made of."""
    kinds = recipe.release
    for key, value in [("release.wide", kinds.wide), *(("release.quants", quant) for quant in kinds.quants)]:
        if value not in TEXT_KINDS:
            raise RecipeError(f"{key} has {value!r}; it may be {', '.join(TEXT_KINDS)}.")
    if not kinds.quants or len(set(kinds.quants)) < len(kinds.quants):
        raise RecipeError(f"release.quants is {kinds.quants}; it must name at least one kind, and none twice.")


def _wanted(recipe: LoraRecipe, name: str, base: Path, adapter: Path, place: Callable[[str], Path]) -> list[Wanted]:
    """The base first, then from the widest kind to the narrowest as the recipe has them."""
    kinds, inside = recipe.release, recipe.out / FOLDER
    found = [Wanted(BASE, f"{name}-base", kinds.wide, inside / BASE, base, None, False)]
    if kinds.wide not in kinds.quants:
        title = f"{name}-{kinds.wide.lower()}"
        found.append(Wanted(kinds.wide, title, kinds.wide, inside / kinds.wide.lower(), base, adapter, False))
    for kind in sorted(kinds.quants, key=lambda kind: kind != kinds.wide):
        title = f"{name}-{kind.lower()}"
        found.append(Wanted(kind, title, kind, place(title), base, adapter, True))
    return found


def _check_equal(recipe: LoraRecipe, name: str, pairs: list[Pair]) -> None:
    failed = [pair.column for pair in pairs if not pair.equal]
    if failed:
        _replace(recipe.out / RELEASE, summary(name, recipe.base, pairs, []))
        raise NotReleased(
            f"{name}: {', '.join(failed)} does not answer as its checkpoint does.",
            f"The numbers are in {recipe.out / RELEASE}. Try a wider kind.",
        )


def _replace(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
