"""From a recipe to models in the desktop's list: train what is missing, merge and convert, compare, tell.

What a quantisation costs is measured against the trained checkpoint itself; how well the model answers is in the run's
report and `facellm evaluate`'s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from facellm.core.errors import FaceLLMError
from facellm.core.package import ModelPackage
from facellm_converters.checkpoint.source import resolve
from facellm_converters.convert import Converted, Order, convert
from facellm_converters.equality.compare import Report, compare_with
from facellm_training.lora.recipe import LoraRecipe
from facellm_training.lora.report import RECORD
from facellm_training.lora.run import Tell, train_lora

RELEASE = "release.md"


class NotReleased(FaceLLMError):
    """A converted pair does not answer as the trained checkpoint does."""


@dataclass(frozen=True, slots=True)
class Released:
    """A pair of files and how it compares with the trained checkpoint."""

    quant: str
    files: Converted
    equality: Report


def release(
    recipe: LoraRecipe, name: str, quants: Sequence[str], place: Callable[[str], Path], tell: Tell = print
) -> list[Released]:
    """Train (or finish, or take as it is), then one pair for each of ``quants``, for example "Q8_0".

    ``place`` gives the folder of a model's name. Pairs that are there are replaced. Writes ``release.md`` into the
    recipe's ``out``. Raises ``NotReleased`` where a pair fails the comparison, and what training and converting raise.
    """
    adapter = train_lora(recipe, tell)
    base = resolve(recipe.base, revision=recipe.revision or None, cache=None, tell=lambda *_: None)
    done = [_one(base, adapter, name, quant, place, tell) for quant in quants]
    (recipe.out / RELEASE).write_text(_text(recipe, name, done), encoding="utf-8")
    failed = [one.quant for one in done if not one.equality.equal]
    if failed:
        raise NotReleased(
            f"{name}: {', '.join(failed)} does not answer as the trained checkpoint does.",
            f"The numbers are in {recipe.out / RELEASE}. Try a wider kind.",
        )
    return done


def _one(base: Path, adapter: Path, name: str, quant: str, place: Callable[[str], Path], tell: Tell) -> Released:
    title = f"{name}-{quant.lower()}"
    tell(f"Converting {title}")
    order = Order(base, place(title), quant, adapter=adapter, name=title, force=True)
    files = convert(order, lambda *_: None)
    tell(f"Comparing {title} with the trained checkpoint")
    report = compare_with(base, adapter, ModelPackage(title, files.language, files.mmproj, 0))
    tell(report.table())
    return Released(quant, files, report)


def _text(recipe: LoraRecipe, name: str, done: Sequence[Released]) -> str:
    about = json.loads((recipe.out / RECORD).read_text("utf-8"))
    last = about["evaluations"][-1] if about["evaluations"] else {}
    held = ", ".join(f"{key} {last[key]:.4f}" for key in ("loss", "accuracy", "probability") if key in last)
    lines = [f"# {name}", "", f"LoRA of {recipe.base}; [report of the training](report.md)."]
    lines += ["", f"Held out, at the end: {held}."] if held else []
    for one in done:
        verdict = "equal within the limits of its kind" if one.equality.equal else "NOT equal"
        lines += ["", f"## {one.quant}: {verdict}", "", f"`{one.files.language.name}`, `{one.files.mmproj.name}`", ""]
        lines += ["```", one.equality.table(), "```"]
    return "\n".join(lines) + "\n"
