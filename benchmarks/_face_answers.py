"""Closed questions about labelled faces, asked of several pairs: accuracy, and what each loses against the first."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facellm.core.faces import RgbImage
from facellm.core.package import ModelPackage
from facellm.engine.client import EngineClient
from facellm.engine.protocol import EngineOptions
from facellm_training.data.fairface import read_fairface
from facellm_training.data.labels import FaceLabels
from facellm_training.evaluate.closed import WEAK, Prediction, labelled, predict, read_predictions
from facellm_training.evaluate.metrics import Score, bootstrap

SPLIT = "validation"
TASKS = ("gender", "age", *WEAK)
#: Pictures of one pair before the next one is asked, so that a run that is ended is as far with all of them.
STRETCH = 20
_SEED = 0


@dataclass(frozen=True)
class Faces:
    """``chosen``: files and pixels in a fixed random order, of the pictures with labels of every task."""

    chosen: list[tuple[str, RgbImage]]
    labels: dict[str, FaceLabels]


def faces(data: Path, count: int) -> Faces:
    """At most ``count`` pictures of FairFace's validation split in the folder ``data``."""
    labels = labelled(data, SPLIT, data / "absent")
    files = sorted(file for file, one in labels.items() if "glasses" in one.classes)
    order = [files[place] for place in np.random.default_rng(_SEED).permutation(len(files))][:count]
    pixels = {item.file: item.pixels() for item in read_fairface(data, SPLIT) if item.file in set(order)}
    return Faces([(file, pixels[file]) for file in order], labels)


def ask(pairs: Mapping[str, ModelPackage], shown: Faces, out: Path) -> dict[str, list[Prediction]]:
    """What each pair answers; answers lie in ``out/NAME.jsonl`` and are not asked for again."""
    out.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(shown.chosen), STRETCH):
        stretch = shown.chosen[start : start + STRETCH]
        left = [name for name in pairs if _answered(out / f"{name}.jsonl") < start + len(stretch)]

        def answer(name: str, stretch: list[tuple[str, RgbImage]] = stretch) -> None:
            with EngineClient(pairs[name], EngineOptions(threads=1)) as client:
                predict(client, iter(stretch), shown.labels, out / f"{name}.jsonl", TASKS)

        # One thread each: two threads of one engine wait for each other where other programs run.
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            list(pool.map(answer, left))
    files = {file for file, _ in shown.chosen}
    return {name: [one for one in read_predictions(out / f"{name}.jsonl") if one.file in files] for name in pairs}


def _answered(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n") if path.exists() else 0


def scores(found: Sequence[Prediction], reference: Sequence[Prediction]) -> dict[str, object]:
    """Accuracy of each task and of all answers, and the difference to ``reference`` on the same questions, with 95 %
    intervals; pictures are drawn anew with all their questions."""
    by_task = {task: _accuracy([one for one in found if one.task == task]) for task in TASKS}
    return {
        "accuracy": _accuracy(found), "against_first": _accuracy(found, reference),
        "same_answer": float(np.mean([a == b for a, b in zip(_answers(found), _answers(reference), strict=True)])),
        "tasks": by_task,
    }  # fmt: skip


def _answers(found: Sequence[Prediction]) -> list[tuple[str, str, int]]:
    return sorted((one.file, one.task, int(np.argmax(one.p))) for one in found)


def _accuracy(found: Sequence[Prediction], reference: Sequence[Prediction] = ()) -> dict[str, float]:
    """Share of right answers, less that of ``reference``."""
    files = sorted({one.file for one in found})
    right, asked = _right(found, files)
    before = _right(reference, files)[0] if reference else np.zeros(len(files))

    def share(rows: NDArray[np.intp]) -> float:
        return float((right[rows] - before[rows]).sum() / asked[rows].sum())

    score: Score = bootstrap(share, len(files))
    return {"value": score.value, "low": score.low, "high": score.high, "answers": int(asked.sum())}


def _right(found: Sequence[Prediction], files: list[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Right answers and questions, of each picture."""
    place = {file: number for number, file in enumerate(files)}
    right, asked = np.zeros(len(files)), np.zeros(len(files))
    for one in found:
        right[place[one.file]] += float(np.argmax(one.p) == one.truth)
        asked[place[one.file]] += 1
    return right, asked
