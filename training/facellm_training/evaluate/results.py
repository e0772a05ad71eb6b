"""An evaluation's results on the disk: parquet, JSON, Markdown and a page with pictures."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from facellm_training.evaluate.answer_parser import official_letter
from facellm_training.evaluate.asking import UNREADABLE, Asked
from facellm_training.evaluate.compare import COMPARED
from facellm_training.evaluate.journal import JournalError
from facellm_training.evaluate.page import html_page, skipped_table, worst_mistakes
from facellm_training.evaluate.tables import Table


@dataclass(frozen=True, slots=True)
class Results:
    """``report``: what the JSON holds; ``about``: how the items were made (data, mode, limits)."""

    title: str
    asked: Asked
    report: dict[str, Any]
    tables: Sequence[Table]
    plots: Sequence[tuple[str, bytes]]
    about: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        models = {answers.name: answers.settings for answers in self.asked.models}
        return {"evaluation": self.about | {"machine": platform.machine(), "facellm": _version()}, "models": models}

    @property
    def skipped(self) -> dict[str, int]:
        """By reason; which picture it was stands in the report's ``skipped_items``."""
        reasons = self.asked.skipped.values()
        return dict(Counter(UNREADABLE if reason.startswith(UNREADABLE) else reason for reason in reasons))

    def brief(self) -> str:
        """What a terminal shows: the scores, and how the models compare."""
        skipped = [skipped_table(self.skipped)] if self.skipped else []
        shown = [table for table in self.tables if table is self.tables[0] or table.title == COMPARED]
        return "\n\n".join(table.markdown() for table in [*shown, *skipped])

    def markdown(self) -> str:
        """Tables only: it may be published, the page with its pictures may not."""
        tables = [*self.tables, *([skipped_table(self.skipped)] if self.skipped else [])]
        how = f"```json\n{json.dumps(self.settings, indent=1)}\n```"
        return "\n\n".join([f"# {self.title}", *(table.markdown() for table in tables), how]) + "\n"


def write_results(results: Results, out: Path) -> None:
    """``results.parquet``, ``report.json``, ``report.md``, ``report.html``; an older one is replaced when whole.

    Raises ``JournalError`` on a full disk: the answers are kept, and the same command writes the files again.
    """
    asked = results.asked
    report = results.report | {
        "settings": results.settings, "skipped": results.skipped, "skipped_items": asked.skipped,
    }  # fmt: skip
    mistakes = {one.name: worst_mistakes(asked.items, one.replies) for one in asked.models}
    page = html_page(results.title, results.tables, results.plots, mistakes, results.settings, results.skipped)
    sink = pa.BufferOutputStream()
    pq.write_table(_table(asked), sink)
    try:
        _replace(out / "results.parquet", sink.getvalue().to_pybytes())
        _replace(out / "report.json", json.dumps(report, indent=1).encode())
        _replace(out / "report.md", results.markdown().encode())
        _replace(out / "report.html", page.encode())
    except OSError as error:
        raise JournalError(
            f"The results cannot be written: {error.strerror or error}.",
            "Every answer is kept. Free some space and run the same command again.",
        ) from error


def _version() -> str:
    """Of this program; "" where it runs from its sources without being installed."""
    try:
        return version("facellm")
    except PackageNotFoundError:
        return ""


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except OSError:
        with suppress(OSError):
            part.unlink()  # what is left of it would keep a full disk full
        raise


def _table(asked: Asked) -> pa.Table:
    """One row a question and model."""
    groups = sorted({name for item in asked.items for name in item.groups})
    rows = []
    for answers in asked.models:
        for item in asked.items:
            reply = answers.replies[item.id]
            p = None if reply.logprobs is None else [float(value) for value in np.exp(reply.logprobs)]
            rows.append({
                "model": answers.name, "item": item.id, "category": item.category, "task": item.task,
                "prompt": item.prompt, "options": list(item.options), "keys": list(item.keys),
                "right": item.keys[item.right], "p": p, "constrained": None if p is None else item.keys[np.argmax(p)],
                "text": reply.text,
                "official": None if reply.text is None else official_letter(reply.text, item.options),
                "seconds": reply.seconds, **{f"group_{name}": item.groups.get(name) for name in groups},
            })  # fmt: skip
    fixed = {"p": pa.list_(pa.float64()), "text": pa.string(), "official": pa.string(), "constrained": pa.string()}
    found = pa.Table.from_pylist(rows)
    return found.cast(pa.schema([(field.name, fixed.get(field.name, field.type)) for field in found.schema]))
