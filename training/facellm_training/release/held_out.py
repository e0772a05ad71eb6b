"""The closed questions that a training held out, put to finished models: the same items in every column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellm.core.prompt import choice_keys
from facellm_training.evaluate.asking import Asked, ModelAnswers
from facellm_training.evaluate.compare import compare_all, comparison_table
from facellm_training.evaluate.items import Item
from facellm_training.evaluate.metrics import Score, calibration_error, mean_score, reliability
from facellm_training.evaluate.plots import reliability_plot, score_plot
from facellm_training.evaluate.results import Results, write_results
from facellm_training.evaluate.run import Run, ask_items
from facellm_training.evaluate.tables import Table
from facellm_training.lora.conversations import IMAGE, Conversation, read_conversations

Floats = NDArray[np.float64]
ALL = "all"
TITLE = "Held-out closed questions"
#: Title of a table.
SURE = "How sure"


def run_held_out(run: Run, conversations: Path) -> Results | None:
    """Ask what ``conversations`` (as ``facellm train`` leaves them) hold; nothing where there is no closed question.

    Raises what reading and asking raise.
    """
    items, skipped = held_out_items(read_conversations(conversations).conversations)
    if not items:
        return None
    asked = ask_items(run, items, skipped)
    report = held_out_report(asked)
    rows = [
        (name, {model: _cell(whole["scores"][name]) for model, whole in report["models"].items()})
        for name in report["scores"]
    ]
    curves = {model: whole["reliability"] for model, whole in report["models"].items()}
    plots = [("accuracy", score_plot(rows, TITLE)), ("reliability", reliability_plot(curves, "As sure as right?"))]
    results = Results(TITLE, asked, report, held_out_tables(report), plots, {"data": conversations.name})
    write_results(results, run.out)
    return results


def held_out_items(conversations: Sequence[Conversation]) -> tuple[list[Item], dict[str, str]]:
    """The first question of each closed conversation, and by id why one cannot be asked."""
    items, skipped = [], dict[str, str]()
    for one in conversations:
        if not one.choices:
            continue
        role, text = one.messages[0]
        prompt = text.removeprefix(IMAGE * len(one.images)).lstrip("\n")
        keys = choice_keys(one.choices)
        answer = one.answer.strip().lower()
        if role != "user" or IMAGE in prompt:
            skipped[one.id] = "its pictures do not stand before its question, where a model in the product gets them"
            continue
        right = [key.lower() for key in keys].index(answer)
        groups = {"format": one.format or "unnamed", "aspect": one.aspect or "unnamed"}
        items.append(Item(one.id, one.images, prompt, keys, one.choices, right, one.format or "unnamed", groups=groups))
    return items, skipped


def held_out_report(asked: Asked) -> dict[str, Any]:
    """The first model's scores at the top, each model's below ``models``; shares 0..1. Options differ from question to
    question, so that there is no confusion of one with another and no macro-F1."""
    models = {answers.name: _model(asked.items, answers) for answers in asked.models}
    right = {answers.name: _right(asked.items, answers) for answers in asked.models}
    comparisons = [{"question": ALL, **row} for row in compare_all(right)]
    pictures = {picture for item in asked.items for picture in item.pictures}
    first = models[asked.models[0].name]
    return {
        "n": len(pictures), "questions": len(asked.items), **first, "models": models, "comparisons": comparisons,
    }  # fmt: skip


def _model(items: Sequence[Item], answers: ModelAnswers) -> dict[str, Any]:
    right = _right(items, answers)
    chance = np.array([1 / len(item.options) for item in items])
    scores = {ALL: asdict(mean_score(right)) | {"guess": float(chance.mean())}}
    for name, rows in _groups(items).items():
        scores[name] = asdict(mean_score(right[rows])) | {"guess": float(chance[rows].mean())}
    p = [np.exp(answers.replies[item.id].logprobs or ()) for item in items]
    sure = np.array([each.max() for each in p])
    seconds = [answers.replies[item.id].seconds for item in items]
    return {
        "scores": scores, "ece": calibration_error(sure, right), "reliability": reliability(sure, right),
        "probability": float(np.mean([each[item.right] for each, item in zip(p, items, strict=True)])),
        "median_seconds": float(np.median(seconds)),
    }  # fmt: skip


def _right(items: Sequence[Item], answers: ModelAnswers) -> Floats:
    return np.array([int(np.argmax(answers.replies[item.id].logprobs or (0,))) == item.right for item in items], float)


def _groups(items: Sequence[Item]) -> dict[str, list[int]]:
    """Row name → places of its items, formats first."""
    found: dict[str, list[int]] = {}
    for group in ("format", "aspect"):
        for name in sorted({item.groups[group] for item in items}):
            places = [place for place, item in enumerate(items) if item.groups[group] == name]
            found[f"{group} {name}"] = places
    return found


def held_out_tables(report: dict[str, Any]) -> list[Table]:
    """Accuracy, how sure, comparisons; one column a model."""
    models = report["models"]
    rows = []
    for name, score in report["scores"].items():
        cells = [Score(*_cell(whole["scores"][name])).percent() for whole in models.values()]
        rows.append([name, str(score["n"]), f"{100 * score['guess']:.1f}", *cells])
    tables = [Table("Right, % [95 %]", ["questions", "n", "chance", *models], rows)]
    sure = [[name, f"{whole['probability']:.3f}", f"{whole['ece']:.3f}"] for name, whole in models.items()]
    tables.append(Table(SURE, ["model", "probability of the right answer", "calibration error"], sure))
    if report["comparisons"]:
        tables.append(comparison_table(report["comparisons"], "question"))
    return tables


def _cell(score: dict[str, Any]) -> tuple[float, float, float, int]:
    return score["value"], score["low"], score["high"], score["n"]
