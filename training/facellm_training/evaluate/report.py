"""From predictions to a report: every score with its interval, groups, calibration, and a table against the targets."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from facellm_training.data.fairface import AGES, RACES
from facellm_training.data.labels import TASKS, FaceLabels
from facellm_training.evaluate.closed import Prediction, of_task
from facellm_training.evaluate.metrics import (
    Score,
    calibration_error,
    group_gap,
    macro_f1,
    mean_score,
    with_temperature,
)

#: What this project aims at, in percent (``docs/nano-model.md`` explains each).
TARGETS: dict[str, float] = {
    "gender": 96.0, "age": 60.0, "age ±1": 95.5, "race": 76.0, "glasses": 99.0, "facial_hair": 91.0,
    "facial hair on men, none/any": 90.0, "smile": 84.0, "mouth": 87.0, "headwear none/any": 98.0,
    "hair_color": 82.0, "expression": 85.0, "yaw": 92.0,
}  # fmt: skip


def fit_temperature(predictions: list[Prediction]) -> float:
    """One temperature that minimises the mean negative log-likelihood over the tasks, each weighing the same."""
    tasks = [of_task(predictions, task) for task in sorted({item.task for item in predictions})]

    def loss(temperature: float) -> float:
        parts = []
        for _, truth, p in tasks:
            chosen = with_temperature(p, temperature)[np.arange(len(truth)), truth]
            parts.append(-np.log(np.clip(chosen, 1e-9, 1)).mean())
        return float(np.mean(parts))

    return float(minimize_scalar(loss, bounds=(0.3, 5.0), method="bounded").x)


def score_tasks(predictions: list[Prediction], labels: dict[str, FaceLabels]) -> dict[str, Any]:
    """Scores by row name; groups for age and gender; calibration for each task."""
    report: dict[str, Any] = {"scores": {}, "ece": {}, "macro_f1": {}, "groups": {}}
    for task in dict.fromkeys(item.task for item in predictions):
        files, truth, p = of_task(predictions, task)
        found = p.argmax(1)
        right = (found == truth).astype(np.float64)
        _add(report, task, mean_score(right), np.bincount(truth).max() / len(truth))
        report["macro_f1"][task] = asdict(macro_f1(truth, found, len(TASKS[task])))
        report["ece"][task] = calibration_error(p.max(1), right)
        _derived(report, task, truth, found, np.array([labels[file].classes["gender"] for file in files]))
        if task in ("age", "gender"):
            race = np.array([labels[file].classes["race"] for file in files])
            report["groups"][f"{task} by race"] = group_gap(right, race, RACES)
            bins = np.array([labels[file].classes["age"] for file in files])
            report["groups"][f"{task} by age"] = group_gap(right, bins, AGES)
    return report


def _add(report: dict[str, Any], name: str, score: Score, guess: float) -> None:
    """``guess``: what always giving the one most frequent answer would score, 0..1."""
    report["scores"][name] = asdict(score) | {"target": TARGETS.get(name), "guess": float(guess)}


def _derived(
    report: dict[str, Any], task: str, truth: NDArray[np.int64], found: NDArray[np.int64], gender: NDArray[np.int64]
) -> None:
    """Rows that join or restrict classes."""
    if task == "age":
        near = max(float((abs(truth - guess) <= 1).mean()) for guess in range(len(TASKS[task])))
        _add(report, "age ±1", mean_score((abs(found - truth) <= 1).astype(np.float64)), near)
    if task == "headwear":
        _add_presence(report, "headwear none/any", truth, found)
    if task == "facial_hair" and (gender == 0).any():
        men = gender == 0
        _add_presence(report, "facial hair on men, none/any", truth[men], found[men])


def _add_presence(report: dict[str, Any], name: str, truth: NDArray[np.int64], found: NDArray[np.int64]) -> None:
    """Class 0 ("none") against all others."""
    share = float((truth == 0).mean())
    _add(report, name, mean_score(((found == 0) == (truth == 0)).astype(np.float64)), max(share, 1 - share))


def markdown(report: dict[str, Any]) -> str:
    """The scores as a table."""
    lines = [
        "| question | accuracy % [95 %] | target | macro-F1 | calibration error | most frequent answer % | n |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, score in report["scores"].items():
        target = f"≥ {score['target']:g}" if score["target"] else "–"
        text = Score(score["value"], score["low"], score["high"], score["n"]).percent()
        f1 = f"{100 * report['macro_f1'][name]['value']:.1f}" if name in report["macro_f1"] else "–"
        ece = f"{report['ece'][name]:.3f}" if name in report["ece"] else "–"
        lines.append(f"| {name} | {text} | {target} | {f1} | {ece} | {100 * score['guess']:.1f} | {score['n']} |")
    return "\n".join(lines)
