"""The table that every release ends with: base, tuned, and each quantised kind, on the same items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facellm_training.evaluate.asking import Tell
from facellm_training.evaluate.compare import comparison_table
from facellm_training.evaluate.facexbench import read_facexbench
from facellm_training.evaluate.labelled import FairFaceSource, read_fairface_items
from facellm_training.evaluate.results import Results
from facellm_training.evaluate.run import Run, run_facexbench, run_fairface
from facellm_training.evaluate.tables import Table
from facellm_training.lora.recipe import Release
from facellm_training.release.held_out import ALL, run_held_out
from facellm_training.release.pairs import Pair

BASE = "base"


@dataclass(frozen=True, slots=True)
class Measured:
    """One evaluation of all pairs. ``name``: of its folder below ``release``. ``verdicts``: a sentence for each score:
    how the tuned model (column ``tuned``) compares with its base."""

    name: str
    results: Results
    verdicts: tuple[str, ...]
    tuned: str

    def tables(self) -> list[Table]:
        """The scores, and of all comparisons the tuned model with its base and with each of its kinds."""
        rows = [
            row for row in self.results.report["comparisons"]
            if (row["first"] == BASE and row["second"] == self.tuned) or row["first"] == self.tuned
        ]  # fmt: skip
        about = "score" if rows and "score" in rows[0] else "question"
        return [self.results.tables[0], *([comparison_table(rows, about)] if rows else [])]


def check_data(settings: Release) -> None:
    """Find out before hours of training that the data for the evaluation is not there. Raises ``EvaluationError``."""
    if settings.fairface is not None:
        read_fairface_items(FairFaceSource(settings.fairface, limit=1))
    if settings.facexbench is not None:
        read_facexbench(settings.facexbench)


def measure(pairs: Sequence[Pair], held_out: Path, settings: Release, out: Path, tell: Tell) -> list[Measured]:
    """Ask all ``pairs``; a killed evaluation goes on. ``held_out``: the conversations that the training kept for this.

    Raises what evaluating raises.
    """
    models = [f"{pair.column}={pair.language}" for pair in pairs]
    tuned = next(pair.column for pair in pairs if pair.column != BASE)
    found = []
    asked = run_held_out(Run(models, out / "held-out", tell), held_out)
    if asked is not None:
        found.append(Measured("held-out", asked, _verdicts(asked, tuned, {ALL}), tuned))
    if settings.fairface is not None:
        results = run_fairface(
            Run(models, out / "fairface", tell), FairFaceSource(settings.fairface, limit=settings.limit)
        )
        found.append(Measured("fairface", results, _verdicts(results, tuned, {"age", "gender"}), tuned))
    if settings.facexbench is not None:
        results = run_facexbench(Run(models, out / "facexbench", tell), settings.facexbench, limit=settings.limit)
        found.append(Measured("facexbench", results, _verdicts(results, tuned, {"official", "constrained"}), tuned))
    return found


def _verdicts(results: Results, tuned: str, wanted: set[str]) -> tuple[str, ...]:
    rows = results.report["comparisons"]
    return tuple(
        f"{results.title}, {row.get('question') or row.get('score')}: {_verdict(row)}"
        for row in rows
        if row["first"] == BASE and row["second"] == tuned and (row.get("question") or row.get("score")) in wanted
    )


def _verdict(row: dict[str, Any]) -> str:
    points = f"{100 * row['difference']:+.1f} points [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"
    said = f"tuned against base {points}, p = {row['p']:.2g}, {row['n']} questions"
    if row["p"] >= 0.05:
        return f"no difference shows ({said})."
    return f"{'better than' if row['difference'] > 0 else 'WORSE than'} its base ({said})."
