"""Scores of labelled pictures: accuracy, macro-F1, groups and their gaps, calibration, models against each other."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellm_training.evaluate.answer_parser import official_letter
from facellm_training.evaluate.asking import Asked, ModelAnswers
from facellm_training.evaluate.closed import Prediction
from facellm_training.evaluate.compare import compare_all, comparison_table
from facellm_training.evaluate.items import Item
from facellm_training.evaluate.labelled import SEPARATOR, UNKNOWN
from facellm_training.evaluate.metrics import (
    Score,
    calibration_error,
    macro_f1,
    mean_score,
    reliability,
    with_temperature,
)
from facellm_training.evaluate.report import fit_temperature
from facellm_training.evaluate.tables import Table

#: One picture in so many is kept for fitting the temperature, whose effect is measured on the others.
FIT_EVERY = 5
#: Fewer answers than this fit no temperature.
LEAST_FIT = 20
#: A group of fewer pictures has no place in the worst gap: chance alone makes ± 20 points.
LEAST_GROUP = 20

#: Titles of tables.
CALIBRATION, GAPS = "Calibration error", "Gaps between groups, points"

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def labelled_report(asked: Asked, ordinal: frozenset[str]) -> dict[str, Any]:
    """The first model's scores at the top, each model's below ``models``; shares 0..1; ``ordinal`` of ``Labelled``."""
    models = {answers.name: _model(asked.items, answers, ordinal) for answers in asked.models}
    pictures = {picture_of(item) for item in asked.items}
    return {
        "n": len(pictures), "questions": len(asked.items), **models[asked.models[0].name], "models": models,
        "comparisons": _comparisons(asked, ordinal),
    }  # fmt: skip


def picture_of(item: Item) -> str:
    """The picture's name, which the item's id begins with."""
    return item.id.rpartition(SEPARATOR)[0]


def for_fitting(item: Item) -> bool:
    """Whether the item's picture is of the part on which the temperature is fitted; the same for all its items."""
    return hashlib.sha256(picture_of(item).encode()).digest()[0] % FIT_EVERY == 0


def chosen(item: Item, answers: ModelAnswers) -> int:
    """The option that was answered; -1 for none."""
    reply = answers.replies[item.id]
    if reply.logprobs is not None:
        return int(np.argmax(reply.logprobs))
    text = reply.text or ""
    if len(item.keys[0]) > 1:  # yes and no
        word = re.search(rf"\b({'|'.join(item.keys)})\b", text.lower())
        return item.keys.index(word.group()) if word else -1
    letter = official_letter(text, item.options)
    return item.keys.index(letter) if letter else -1


def _by_task(items: Sequence[Item]) -> dict[str, list[Item]]:
    found: dict[str, list[Item]] = {}
    for item in items:
        found.setdefault(item.task, []).append(item)
    return found


def _model(items: Sequence[Item], answers: ModelAnswers, ordinal: frozenset[str]) -> dict[str, Any]:
    report: dict[str, Any] = {name: {} for name in ("scores", "macro_f1", "groups", "confusion", "ece", "reliability")}
    for task, rows in _by_task(items).items():
        truth = np.array([item.right for item in rows], np.int64)
        found = np.array([chosen(item, answers) for item in rows], np.int64)
        right = (found == truth).astype(np.float64)
        size = len(rows[0].options)
        report["scores"][task] = _score(right, truth)
        if task in ordinal:
            near = _near(found, truth)
            report["scores"][f"{task} ±1"] = asdict(mean_score(near)) | {"guess": _near_guess(truth, size)}
        # An answer that is no option is a class of its own, which nothing belongs to.
        known = np.where(found < 0, size, found)
        report["macro_f1"][task] = asdict(macro_f1(truth, known, size + int((found < 0).any())))
        report["confusion"][task] = np.bincount(truth * (size + 1) + known, minlength=size * (size + 1)).reshape(
            size, size + 1
        )[:, :size].tolist()  # fmt: skip
        for group in rows[0].groups:
            report["groups"][f"{task} by {group}"] = _group(right, [item.groups.get(group, "") for item in rows])
    report["worst_gap"] = _worst(report["groups"])
    report["calibration"] = _calibrate(items, answers, report)
    report["accuracy"] = {task: score["value"] for task, score in report["scores"].items()}
    report["interval"] = {task: [score["low"], score["high"]] for task, score in report["scores"].items()}
    report["median_seconds"] = float(np.median([answers.replies[item.id].seconds for item in items]))
    return report


def _score(right: Floats, truth: Ints) -> dict[str, Any]:
    """``guess``: what always giving the one most frequent answer would score."""
    return asdict(mean_score(right)) | {"guess": float(np.bincount(truth).max() / len(truth))}


def _near(found: Ints, truth: Ints) -> Floats:
    return ((abs(found - truth) <= 1) & (found >= 0)).astype(np.float64)


def _near_guess(truth: Ints, size: int) -> float:
    return max(float((abs(truth - guess) <= 1).mean()) for guess in range(size))


def _group(right: Floats, names: list[str]) -> dict[str, Any]:
    values = np.array(names)
    scores = {name: mean_score(right[values == name]) for name in sorted(set(names), key=_natural) if name}
    large = {name: score.value for name, score in scores.items() if score.n >= LEAST_GROUP and name != UNKNOWN}
    best, worst = (max(large, key=large.__getitem__), min(large, key=large.__getitem__)) if len(large) > 1 else ("", "")
    return {
        "accuracy": {name: score.value for name, score in scores.items()},
        "n": {name: score.n for name, score in scores.items()},
        "interval": {name: [score.low, score.high] for name, score in scores.items()},
        "best": best, "worst": worst, "gap": large[best] - large[worst] if best else None,
    }  # fmt: skip


def _natural(name: str) -> tuple[int, str]:
    """Age bins in order: by the number that a name begins with."""
    number = re.match(r"\d+", name)
    return (int(number.group()) if number else -1, name)


def _worst(groups: dict[str, Any]) -> dict[str, Any] | None:
    """The largest gap between two groups of at least ``LEAST_GROUP`` pictures."""
    found = [
        {"of": name, **{key: group[key] for key in ("best", "worst", "gap")}}
        for name, group in groups.items() if group["gap"] is not None
    ]  # fmt: skip
    return max(found, key=lambda row: row["gap"], default=None)


def _calibrate(items: Sequence[Item], answers: ModelAnswers, report: dict[str, Any]) -> dict[str, Any] | None:
    """Fills ``ece`` (all pictures, as the model says) and ``reliability``; the effect of a fitted temperature.

    Answers without probabilities are left out, and counted.
    """
    report["ece"] = dict.fromkeys(_by_task(items))
    asked = len(items)
    items = [item for item in items if answers.replies[item.id].logprobs is not None]
    report["without_probabilities"] = asked - len(items)
    if not items:
        return None
    fit = [_prediction(item, answers) for item in items if for_fitting(item)]
    temperature = fit_temperature(fit) if len(fit) >= LEAST_FIT else None
    found: dict[str, Any] = {"temperature": temperature, "fitted_on": len(fit), "ece_before": {}, "ece_after": {}}
    for task, rows in _by_task(items).items():
        confidence, right = _confidence(rows, answers, 1.0)
        report["ece"][task] = calibration_error(confidence, right)
        report["reliability"][task] = {"as it says": reliability(confidence, right)}
        rest = [item for item in rows if not for_fitting(item)]
        if temperature is None or not rest:
            continue
        found["ece_before"][task] = calibration_error(*_confidence(rest, answers, 1.0))
        scaled = _confidence(rest, answers, temperature)
        found["ece_after"][task] = calibration_error(*scaled)
        # Both on the same pictures, or the two curves would not compare.
        report["reliability"][task] = {
            "as it says": reliability(*_confidence(rest, answers, 1.0)), "with temperature": reliability(*scaled),
        }  # fmt: skip
    return found


def _prediction(item: Item, answers: ModelAnswers) -> Prediction:
    logs = answers.replies[item.id].logprobs
    return Prediction(picture_of(item), item.task, item.right, tuple(np.exp(logs or ())))


def _confidence(rows: Sequence[Item], answers: ModelAnswers, temperature: float) -> tuple[Floats, Floats]:
    """Probability of what was answered, and whether it was right."""
    p = with_temperature(np.array([_prediction(item, answers).p for item in rows]), temperature)
    right = (p.argmax(1) == np.array([item.right for item in rows])).astype(np.float64)
    return p.max(1), right


def _comparisons(asked: Asked, ordinal: frozenset[str]) -> list[dict[str, Any]]:
    found = []
    for task, rows in _by_task(asked.items).items():
        truth = np.array([item.right for item in rows], np.int64)
        given = {one.name: np.array([chosen(item, one) for item in rows], np.int64) for one in asked.models}
        right = {name: (each == truth).astype(np.float64) for name, each in given.items()}
        found += [{"question": task, **row} for row in compare_all(right)]
        if task in ordinal:
            near = {name: _near(each, truth) for name, each in given.items()}
            found += [{"question": f"{task} ±1", **row} for row in compare_all(near)]
    return found


def labelled_tables(report: dict[str, Any]) -> list[Table]:
    """Accuracy, calibration, groups, comparisons, times; one column a model."""
    models = report["models"]
    names = list(models)
    rows = []
    for task, score in report["scores"].items():
        cells = [Score(*(models[name]["scores"][task][key] for key in ("value", "low", "high", "n"))).percent()
                 for name in names]  # fmt: skip
        rows.append([task, str(score["n"]), f"{100 * score['guess']:.1f}", *cells])
    for task in report["macro_f1"]:
        cells = [f"{100 * models[name]['macro_f1'][task]['value']:.1f}" for name in names]
        rows.append([f"{task}, macro-F1", str(report["macro_f1"][task]["n"]), "–", *cells])
    tables = [Table("Accuracy, % [95 %]", ["question", "n", "most frequent answer", *names], rows)]
    tables += [_calibration_table(models), _group_table(models)]
    gaps = _gap_table(models)
    tables += [gaps] if gaps.rows else []
    if report["comparisons"]:
        tables.append(comparison_table(report["comparisons"], "question"))
    times = [[name, f"{model['median_seconds']:.3f}"] for name, model in models.items()]
    return [*tables, Table("Seconds a question, median", ["model", "s"], times)]


def _calibration_table(models: dict[str, Any]) -> Table:
    rows = []
    for name, model in models.items():
        fitted = model["calibration"] or {"temperature": None, "ece_before": {}, "ece_after": {}}
        for task, error in model["ece"].items():
            pair = [fitted[key].get(task) for key in ("ece_before", "ece_after")]
            shown = ["–" if value is None else f"{value:.3f}" for value in (error, *pair)]
            heat = f"{fitted['temperature']:.2f} ({fitted['fitted_on']})" if fitted["temperature"] else "–"
            rows.append([name, task, shown[0], heat, *shown[1:]])
    note = f"The temperature is fitted on one picture in {FIT_EVERY}; before and after are measured on the others."
    silent = {name: model["without_probabilities"] for name, model in models.items() if model["calibration"]}
    note += "".join(
        f" {name}: {count} answers without probabilities are left out." for name, count in silent.items() if count
    )
    return Table(CALIBRATION, ["model", "question", "all", "temperature (answers)", "before", "after"], rows, note)


def _group_table(models: dict[str, Any]) -> Table:
    rows = []
    for what, group in next(iter(models.values()))["groups"].items():
        for who, number in group["n"].items():
            rates = [f"{100 * model['groups'][what]['accuracy'][who]:.1f}" for model in models.values()]
            rows.append([what, who, str(number), *rates])
    return Table("Groups, accuracy %", ["question", "group", "n", *models], rows)


def _gap_table(models: dict[str, Any]) -> Table:
    """The largest first, by the first model."""
    first = next(iter(models.values()))["groups"]
    rows = []
    for what in sorted(first, key=lambda what: -(first[what]["gap"] or 0.0)):
        groups = [model["groups"][what] for model in models.values()]
        cells = [f"{100 * g['gap']:.1f} ({g['best']} over {g['worst']})" for g in groups if g["gap"] is not None]
        if cells:
            rows.append([what, *cells])
    note = (
        f"Best minus worst group of at least {LEAST_GROUP} pictures. The more and the smaller the groups, the larger "
        "the gap that chance alone makes: see their intervals."
    )
    return Table(GAPS, ["question", *models], rows, note)
