"""The card of a released model: what it is, how good, made from what, and for what it is not made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facellm_training.evaluate.labelled_report import CALIBRATION, GAPS
from facellm_training.evaluate.tables import Table
from facellm_training.lora.recipe import NANO
from facellm_training.release.held_out import SURE
from facellm_training.release.measured import Measured
from facellm_training.release.pairs import Pair

_PURPOSE = """\
**Made for:** questions about what can be seen of a face in a photo: visible expression, glasses, hair, headwear, pose,
light and sharpness, perceived gender, an age range.

**Not for:** who somebody is, ethnicity, feelings, health, character, or any decision about a person. Its answers
repeat the errors of the labels and of the teacher that it was trained on, and are better for some groups of people
than for others."""

_LICENCES = """\
The base model's stands under *Files*. The data's: see the card in its folder; photos of FairFace are CC BY 4.0, and
what a teacher wrote is subject to its provider's terms."""

_NO_TABLE = "Not measured here: run `facellm evaluate fairface` and `facellm evaluate facexbench`."
#: The tables of an evaluation that a reader of the card needs; the others are in its report.
_SHOWN = (CALIBRATION, GAPS, SURE)


def model_card(pair: Pair, run: dict[str, Any], measured: Sequence[Measured], others: Sequence[Pair]) -> str:
    """Markdown. ``run``: what ``facellm train`` wrote into run.json. ``others``: all pairs of the release."""
    verdicts = "\n".join(f"- {line}" for one in measured for line in one.verdicts)
    columns = ", ".join(f"{one.column} ({one.title})" for one in others)
    parts = [
        f"# {pair.title}",
        _what(pair, run["recipe"]["base"]),
        _PURPOSE,
        "## How good",
        verdicts,
        f"Columns: {columns}. All were asked the same questions." if measured else _NO_TABLE,
        *(_tables(one) for one in measured),
        "## Beside the trained checkpoint",
        f"```\n{pair.table}\n```",
        "## Trained on",
        _trained_on(run["recipe"], run),
        "## Licences",
        _LICENCES,
        "## Files",
        pair.files.partition("\n")[2].strip(),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _what(pair: Pair, base: str) -> str:
    name = "the embedded model" if base == NANO else Path(base).name if Path(base).is_dir() else base
    return (
        f"LoRA of {name}, merged, as {pair.kind} with an image part in F16. Written by `facellm release` from its own "
        "measurements."
    )


def _tables(measured: Measured) -> str:
    tables = measured.results.tables
    shown = [*measured.tables(), *(table for table in tables if table.title in _SHOWN)]
    texts = [f"### {measured.results.title}", *(table.markdown() for table in shown), _skipped(measured)]
    return "\n\n".join(filter(None, texts))


def _skipped(measured: Measured) -> str:
    return "".join(f"Left out, {reason}: {count}. " for reason, count in measured.results.skipped.items()).strip()


def _trained_on(recipe: dict[str, Any], run: dict[str, Any]) -> str:
    early = ", stopped early" if run["stopped_early"] else ""
    batch, epochs = recipe["optimiser"]["batch"], recipe["optimiser"]["epochs"]
    lines = [
        f"- conversations: {Path(recipe['data']['path']).name}, SHA-256 `{run['data_sha256']}`",
        *(f"- {name}: {count}" for name, count in run["counts"].items()),
        f"- steps: {run['steps']} of {batch} conversations, {epochs:g} epochs asked for{early}",
    ]
    for part in ("language", "image_tower", "projector"):
        settings = recipe[part]
        if settings.get("full"):
            lines.append(f"- {part.replace('_', ' ')}: trained whole, rate {settings['lr']:g}")
        elif settings["rank"]:
            how = f"LoRA of rank {settings['rank']}, alpha {settings['alpha']:g}, rate {settings['lr']:g}"
            lines.append(f"- {part.replace('_', ' ')}: {how}")
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    return "\n".join([*lines, f"- with: {run['device']}; {versions}", f"- commit: {run['commit']}"])


def summary(name: str, base: str, pairs: Sequence[Pair], measured: Sequence[Measured]) -> str:
    """``release.md``: all pairs of a release beside each other."""
    rows = [[one.column, one.title, one.kind, _size(one), "yes" if one.equal else "NO"] for one in pairs]
    made = Table("Pairs", ["column", "model", "kind", "MB", "answers as its checkpoint does"], rows)
    lines = [f"# {name}", f"LoRA of {base}; [report of the training](report.md).", made.markdown()]
    lines += [f"- {verdict}" for one in measured for verdict in one.verdicts]
    for one in measured:
        tables = [table.markdown() for table in one.results.tables[:1]]
        lines += [f"## {one.results.title}", *tables, f"[Whole report](release/{one.name}/report.html)"]
    for pair in pairs:
        lines += [f"## {pair.title} beside its checkpoint", f"```\n{pair.table}\n```"]
    return "\n\n".join(lines) + "\n"


def _size(pair: Pair) -> str:
    return f"{sum(path.stat().st_size for path in (pair.language, pair.mmproj)) / 1e6:,.0f}"
