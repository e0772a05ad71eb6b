"""Labelled pictures as items: FairFace's parquet, and own question sheets over any folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from facellm.core.policy import RESEARCH_ENV
from facellm_training.data.fairface import AGES, GENDERS, RACES, SPLITS
from facellm_training.data.labels import TASKS, attribute_classes, held_out, measured_classes, read_by_file
from facellm_training.evaluate.closed import EVERY_PICTURE, WEAK, closed_question
from facellm_training.evaluate.items import EvaluationError, Item, closed_item

_NAMES = {"age": AGES, "gender": GENDERS, "race": RACES}
#: The group of pictures whose label for it is missing; it has no place in a gap.
UNKNOWN = "unknown"
#: Between a picture's name and the task's in an item's id.
SEPARATOR = ":"


@dataclass(frozen=True, slots=True)
class Labelled:
    """``tasks``: in order; ``skipped``: item id → why it cannot be asked. ``ordinal``: tasks with ordered options."""

    items: tuple[Item, ...]
    skipped: dict[str, str]
    ordinal: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class FairFaceSource:
    """``measured``: JSON lines of pose and light by file, where they were measured. ``limit`` pictures at most.

    Only ``tasks`` are asked. ``swapped``: each picture is asked the questions of the one before; what is still right
    was never seen.
    """

    data: Path
    split: str = "validation"
    limit: int | None = None
    only_labelled: bool = False
    swapped: bool = False
    measured: Path | None = None
    tasks: tuple[str, ...] = EVERY_PICTURE + WEAK


def read_fairface_items(source: FairFaceSource) -> Labelled:
    """Age, gender and, with the research switch on, race of every picture; weak attributes where there are any.

    Raises ``EvaluationError`` for a folder without parquet of that split or without its columns.
    """
    strange = set(source.tasks) - set(EVERY_PICTURE + WEAK)
    if strange:
        raise EvaluationError(
            f"There is no task {', '.join(strange)}.", f"Choose among {', '.join(EVERY_PICTURE + WEAK)}."
        )
    attributes = source.data / f"attributes-{source.split}.jsonl"
    weak = read_by_file(attributes) if attributes.is_file() else {}
    facts = read_by_file(source.measured) if source.measured and source.measured.is_file() else {}
    allowed = os.environ.get(RESEARCH_ENV) == "1"
    wanted = [task for task in source.tasks if task != "race" or allowed]
    rows: list[tuple[str, bytes, dict[str, Any], dict[str, int]]] = []
    for file, row in _rows(source):
        if source.only_labelled and file not in weak:
            continue
        if source.limit is not None and len(rows) >= source.limit:
            break
        more = measured_classes(facts[file]) if file in facts else {}
        rows.append((file, row["image"].get("bytes") or b"", row, more | attribute_classes(weak.get(file, {}))))
    pictures = [picture for _, picture, _, _ in rows]
    if source.swapped:
        pictures = pictures[1:] + pictures[:1]
    items: list[Item] = []
    skipped: dict[str, str] = {}
    for (file, _, row, more), picture in zip(rows, pictures, strict=True):
        classes, reasons = _classes(row)
        groups = {name: _NAMES[name][index] for name, index in classes.items()}
        skipped |= {f"{file}{SEPARATOR}{task}": why for task, why in reasons.items() if task in wanted}
        for task in [task for task in wanted if task in classes | more]:
            question, right = closed_question(task), (classes | more)[task]
            name = f"{file}{SEPARATOR}{task}"
            items.append(closed_item(name, (picture,), question.text, question.choices, right, task, groups))
    return Labelled(tuple(items), skipped, frozenset({"age"}))


def _rows(source: FairFaceSource) -> Iterator[tuple[str, dict[str, Any]]]:
    if source.split not in SPLITS:
        raise EvaluationError(f"There is no split {source.split}.", f"Choose one of: {', '.join(SPLITS)}.")
    shards = [source.data] if source.data.is_file() else sorted(source.data.glob(f"{source.split}-*.parquet"))
    if not shards:
        raise EvaluationError(
            f"{source.data} holds no {source.split}-*.parquet.", "Give the folder with FairFace's parquet files."
        )
    for shard in shards:
        number = 0
        for row in _read(shard):
            number += 1
            row["image"] = row["image"] or {}
            file = row.get("file") or row["image"].get("path") or f"{shard.stem}-{number}"
            if source.split == "train" and not held_out(file):
                continue
            yield file, row


def _read(shard: Path) -> Iterable[dict[str, Any]]:
    try:
        table = pq.ParquetFile(shard)
        missing = {"image", "age", "gender", "race"} - set(table.schema_arrow.names)
        if missing:
            raise EvaluationError(
                f"{shard.name} has no column {', '.join(sorted(missing))}; it has: "
                f"{', '.join(table.schema_arrow.names)}.", "FairFace's columns are image, age, gender, race.",
            )  # fmt: skip
        if not pa.types.is_struct(table.schema_arrow.field("image").type):
            raise EvaluationError(f"In {shard.name} the column image holds no pictures.", "It needs bytes and path.")
        for batch in table.iter_batches(128):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise EvaluationError(f"{shard} cannot be read: {error}.", "Fetch it again.") from error


def _classes(row: dict[str, Any]) -> tuple[dict[str, int], dict[str, str]]:
    """Known classes, and for the others why not."""
    classes: dict[str, int] = {}
    reasons: dict[str, str] = {}
    for task, names in _NAMES.items():
        value = row[task]
        if value is None:
            reasons[task] = f"missing label: {task}"
        elif not isinstance(value, int) or not 0 <= value < len(names):
            reasons[task] = f"unknown label: {task} {value!r}"
        else:
            classes[task] = value
    assert set(_NAMES) <= set(TASKS)
    return classes, reasons
