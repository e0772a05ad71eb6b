"""Own question sheets: YAML with questions and options, a CSV with the truth, and any folder of pictures.

name: Glasses
file: file                  # the column with the picture's path, relative to the images' folder
groups: [gender]            # columns by which gaps are reported
questions:
  - id: glasses
    question: Which glasses does this person wear?
    options: [no glasses, eyeglasses, sunglasses]
    column: glasses         # the column with the truth
    truth: {none: no glasses}   # labels that are called otherwise than the option
    ordered: false          # ordered options are also scored within one step
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from facellm.core.policy import RESEARCH_ENV, judge
from facellm.core.prompt import choice_keys
from facellm_training.evaluate.items import EvaluationError, Item, closed_item
from facellm_training.evaluate.labelled import SEPARATOR, UNKNOWN, Labelled


@dataclass(frozen=True, slots=True)
class SheetQuestion:
    """``truth``: label → option, for labels that are not the option's own text."""

    id: str
    question: str
    options: tuple[str, ...]
    column: str
    truth: dict[str, str] = field(default_factory=dict)
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Sheet:
    """``file``: the column with the pictures' paths."""

    name: str
    questions: tuple[SheetQuestion, ...]
    file: str = "file"
    groups: tuple[str, ...] = ()


def read_sheet(path: Path) -> Sheet:
    """Raises ``EvaluationError`` for a sheet that is incomplete, misspelt, or asks what is not asked of a face."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        sheet = Sheet(
            str(found.pop("name", path.stem)), tuple(_question(row) for row in found.pop("questions")),
            str(found.pop("file", "file")), tuple(map(str, found.pop("groups", ()))),
        )  # fmt: skip
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise EvaluationError(f"{path} cannot be read: {error}", "A sheet is a YAML file.") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise EvaluationError(f"{path} is no question sheet: {error}", _HINT) from error
    if found:
        raise EvaluationError(f"{path} has unknown entries: {', '.join(found)}.", _HINT)
    if len({question.id for question in sheet.questions}) != len(sheet.questions) or not sheet.questions:
        raise EvaluationError(f"{path} needs questions, each with its own id.", _HINT)
    return sheet


_HINT = "It has: name, file, groups, questions (id, question, options, column, truth, ordered)."


def _question(row: dict[str, Any]) -> SheetQuestion:
    # YAML takes a bare yes or no as a truth value, and 0-2 or 70 as what it looks like.
    options = tuple(_word(option) for option in row["options"])
    truth = {_word(label): _word(option) for label, option in row.get("truth", {}).items()}
    question = SheetQuestion(
        str(row["id"]), str(row["question"]), options, str(row.get("column", row["id"])), truth,
        bool(row.get("ordered", False)),
    )  # fmt: skip
    unknown = set(row) - {"id", "question", "options", "column", "truth", "ordered"}
    if unknown:
        raise EvaluationError(f"The question {question.id} has unknown entries: {', '.join(map(str, unknown))}.", _HINT)
    try:
        choice_keys(options)
    except ValueError as error:
        raise EvaluationError(f"The options of {question.id} cannot be used: {error}.", "Give 2 to 26.") from error
    strange = set(truth.values()) - set(options)
    if strange:
        raise EvaluationError(f"In {question.id}, truth leads to {', '.join(strange)}: no such option.", _HINT)
    verdict = judge(question.question, options)
    if verdict.refusal:
        more = f" For research on labelled data: {RESEARCH_ENV}=1." if verdict.topic == "ethnicity" else ""
        raise EvaluationError(f"{question.id} is not asked of a face.", verdict.refusal + more)
    return question


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def read_sheet_items(sheet: Sheet, images: Path, labels: Path) -> Labelled:
    """Raises ``EvaluationError`` for a CSV that is not there, empty, or without a column that the sheet names."""
    try:
        with labels.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            columns, rows = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(f"{labels} cannot be read: {error}", "Give the CSV with --labels.") from error
    named = [sheet.file, *sheet.groups, *(question.column for question in sheet.questions)]
    missing = [column for column in dict.fromkeys(named) if column not in columns]
    if missing:
        raise EvaluationError(
            f"{labels} has no column {', '.join(missing)}.", f"It has: {', '.join(columns) or 'nothing'}."
        )
    items: list[Item] = []
    skipped: dict[str, str] = {}
    for row in rows:
        # The same path for all questions about a picture: it is then read and encoded once.
        pictures = (images / (row[sheet.file] or ""),)
        groups = {name: row[name] or UNKNOWN for name in sheet.groups}
        for question in sheet.questions:
            name = f"{row[sheet.file]}{SEPARATOR}{question.id}"
            label = (row[question.column] or "").strip()
            option = question.truth.get(label, label)
            if option not in question.options:
                skipped[name] = f"unknown label: {question.column} {label!r}" if label else (
                    f"missing label: {question.column}"
                )  # fmt: skip
                continue
            right = question.options.index(option)
            items.append(closed_item(name, pictures, question.question, question.options, right, question.id, groups))
    ordinal = frozenset(question.id for question in sheet.questions if question.ordered)
    return Labelled(tuple(items), skipped, ordinal)
