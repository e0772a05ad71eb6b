"""Closed questions on FairFace through the finished GGUF pair: asked once per picture, resumable, scored later."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facellm.core.ask import Answer, Question
from facellm.core.faces import RgbImage
from facellm.core.policy import RESEARCH_ENV
from facellm_training.data import wording
from facellm_training.data.fairface import read_fairface
from facellm_training.data.labels import TASKS, FaceLabels, join_labels, read_by_file

#: Tasks whose truth every picture has, and those that only pictures with weak labels have.
EVERY_PICTURE = ("age", "gender", "race", "yaw")
WEAK = ("glasses", "facial_hair", "smile", "mouth", "headwear", "hair_color", "expression")


class Chooser(Protocol):
    """What evaluation needs of the engine."""

    def choose(self, images: tuple[RgbImage, ...], questions: list[Question]) -> list[Answer]: ...


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer: ``p`` has one probability a class of the task, in label order."""

    file: str
    task: str
    truth: int
    p: tuple[float, ...]


def closed_question(task: str) -> Question:
    """The first phrasing of a task with all its classes in order."""
    options = tuple(wording.option_text(task, i) for i in range(len(TASKS[task])))
    return Question(wording.ASK[task][0], options)


def asked_tasks(labels: FaceLabels, tasks: Iterable[str]) -> list[str]:
    """The tasks of this picture whose truth is known; race only with the research switch on."""
    allowed = os.environ.get(RESEARCH_ENV) == "1"
    return [task for task in tasks if task in labels.classes and (task != "race" or allowed)]


def labelled(root: Path, split: str, measured: Path) -> dict[str, FaceLabels]:
    """Labels by file name."""
    items = [
        {"file": item.file, "view": 0, "age": item.age, "gender": item.gender, "race": item.race}
        for item in read_fairface(root, split)
    ]
    facts = read_by_file(measured) if measured.exists() else {}
    joined = join_labels(items, read_by_file(root / f"attributes-{split}.jsonl"), facts)
    return {labels.file: labels for labels in joined}


def predict(
    chooser: Chooser, pictures: Iterator[tuple[str, RgbImage]], labels: dict[str, FaceLabels], out: Path,
    tasks: tuple[str, ...] = EVERY_PICTURE + WEAK,
) -> None:  # fmt: skip
    """Append one line a picture to ``out``; pictures already there are not asked again."""
    done = {json.loads(line)["file"] for line in out.open(encoding="utf-8")} if out.exists() else set()
    with out.open("a", encoding="utf-8") as lines:
        for file, pixels in pictures:
            if file in done:
                continue
            wanted = asked_tasks(labels[file], tasks)
            answers = chooser.choose((pixels,), [closed_question(task) for task in wanted])
            row = {
                task: {"truth": labels[file].classes[task], "p": [round(choice.p, 5) for choice in answer.choices]}
                for task, answer in zip(wanted, answers, strict=True)
            }
            lines.write(json.dumps({"file": file, "tasks": row}) + "\n")
            lines.flush()


def read_predictions(path: Path) -> list[Prediction]:
    """All answers in ``path``."""
    found = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            found += [Prediction(row["file"], task, a["truth"], tuple(a["p"])) for task, a in row["tasks"].items()]
    return found


def of_task(predictions: list[Prediction], task: str) -> tuple[list[str], NDArray[np.int64], NDArray[np.float64]]:
    """Files, truth ``[n]`` and probabilities ``[n, classes]`` of one task."""
    rows = [item for item in predictions if item.task == task]
    return (
        [item.file for item in rows],
        np.array([item.truth for item in rows], np.int64),
        np.array([item.p for item in rows], np.float64),
    )
