"""What a run counted: the figures of its reports and of the data set's card."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from facellm_training.annotate.dataset import Dataset
from facellm_training.annotate.filters import REASONS
from facellm_training.annotate.journal import stamp
from facellm_training.annotate.pictures import Gathered
from facellm_training.annotate.recipe import AnnotateRecipe


@dataclass(frozen=True, slots=True)
class Run:
    """What a report tells of. ``totals``: the journal's; ``asked``, ``rejected``: of the plan."""

    recipe: AnnotateRecipe
    gathered: Gathered
    dataset: Dataset
    totals: dict[str, Any]
    asked: int
    rejected: int
    models: list[str]

    def counts(self) -> dict[str, Any]:
        """Everything that was counted, as JSON."""
        rows = self.dataset.conversations
        return {
            "date": stamp(),
            "pictures": len(self.gathered.pictures),
            "pictures_skipped": self.gathered.skipped,
            "requests": self.asked,
            "answered": len(self.dataset.verdicts),
            "unanswered": self.asked - len(self.dataset.verdicts) - self.rejected,
            "rejected_by_the_server": self.rejected,
            "kept": sum(not reason for reason in self.dataset.verdicts.values()),
            "dropped": {reason: n for reason in REASONS if (n := self.dataset.drops()[reason])},
            "conversations": len(rows),
            "by_format": dict(Counter(row["format"] for row in rows)),
            "by_aspect": dict(Counter(row["aspect"] for row in rows)),
            "prompt_tokens": int(self.totals["prompt_tokens"]),
            "completion_tokens": int(self.totals["completion_tokens"]),
            "dollars": round(self.totals["cost"], 4),
            "dollars_perhaps_paid_without_an_answer": round(self.totals["lost"], 4),
            "requests_perhaps_paid_twice": self.totals["perhaps_paid_twice"],
            "models": self.models,
        }


def main_counts(counts: dict[str, Any]) -> dict[str, Any]:
    """The figures of the first table."""
    perhaps = counts["requests_perhaps_paid_twice"]
    return {
        "pictures": counts["pictures"],
        "requests": counts["requests"],
        "answered": counts["answered"],
        "unanswered (run again)": counts["unanswered"],
        "rejected by the server": counts["rejected_by_the_server"],
        "answers kept": counts["kept"],
        "answers dropped": counts["answered"] - counts["kept"],
        "conversations": counts["conversations"],
        "tokens in / out": f"{counts['prompt_tokens']:,} / {counts['completion_tokens']:,}",
        "dollars": f"{counts['dollars']:,.2f}",
        "requests perhaps paid twice": f"{perhaps} (${counts['dollars_perhaps_paid_without_an_answer']:,.2f} at most)",
    }


def table(left: str, right: str, rows: dict[str, Any]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {left} | {right} |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items()), ""]
