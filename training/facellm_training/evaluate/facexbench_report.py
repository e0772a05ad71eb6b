"""FaceXBench's two scores side by side: what its own answer parser counts, and letter-constrained decoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellm_training.evaluate.answer_parser import official_letter
from facellm_training.evaluate.asking import Asked, ModelAnswers
from facellm_training.evaluate.compare import compare_all, comparison_table
from facellm_training.evaluate.facexbench import FILES, QUESTIONS, Benchmark, Mode
from facellm_training.evaluate.items import Item
from facellm_training.evaluate.metrics import Score, mean_score
from facellm_training.evaluate.tables import Table

KINDS = ("official", "constrained")
Right = NDArray[np.float64]


def official_right(item: Item, answers: ModelAnswers) -> float:
    """1 where the benchmark's own parser finds the right letter in the free answer."""
    text = answers.replies[item.id].text or ""
    return float(official_letter(text, item.options) == item.keys[item.right])


def constrained_right(item: Item, answers: ModelAnswers) -> float:
    """NaN where the model gave no option's probability: wrong, unless it never gives any."""
    logprobs = answers.replies[item.id].logprobs
    return float("nan") if logprobs is None else float(int(np.argmax(logprobs)) == item.right)


_RIGHT: dict[str, Callable[[Item, ModelAnswers], float]] = {
    "official": official_right, "constrained": constrained_right,
}  # fmt: skip


def facexbench_report(asked: Asked, benchmark: Benchmark, mode: Mode) -> dict[str, Any]:
    """The first model's blocks at the top, each model's below ``models``; shares 0..1."""
    models = {answers.name: _model(asked.items, answers) for answers in asked.models}
    first = models[asked.models[0].name]
    comparisons = []
    for kind in KINDS:
        right = {answers.name: _right(asked.items, answers, kind) for answers in asked.models}
        whole = {name: np.nan_to_num(values) for name, values in right.items() if not np.isnan(values).all()}
        comparisons += [{"score": kind, **row} for row in compare_all(whole)]
    return {
        "n": len(asked.items), "mode": mode, "files": benchmark.files,
        "complete": benchmark.files == FILES and len(asked.items) == QUESTIONS,
        **first, "models": models, "comparisons": comparisons,
    }  # fmt: skip


def _model(items: Sequence[Item], answers: ModelAnswers) -> dict[str, Any]:
    apart = [item for item in items if item.groups["overlap"] == "no"]
    seconds = [answers.replies[item.id].seconds for item in items]
    silent = sum(answers.replies[item.id].logprobs is None for item in items)
    return {
        **_blocks(items, answers), "without_overlap": {"n": len(apart), **_blocks(apart, answers)},
        "without_probabilities": silent, "median_seconds": float(np.median(seconds)),
    }  # fmt: skip


def _blocks(items: Sequence[Item], answers: ModelAnswers) -> dict[str, Any]:
    """Shares by kind, and beside them in the same shape intervals and numbers of questions."""
    found: dict[str, Any] = {"intervals": {}, "counts": {}}
    for kind in KINDS:
        right = _right(items, answers, kind)
        if np.isnan(right).all():
            found[kind] = found["intervals"][kind] = found["counts"][kind] = None
            continue
        right = np.nan_to_num(right)
        scores = {
            "overall": mean_score(right), "category": _by(items, right, lambda item: item.category),
            "sub_category": _by(items, right, lambda item: item.task),
        }  # fmt: skip
        found[kind] = _each(scores, lambda score: score.value)
        found["intervals"][kind] = _each(scores, lambda score: [score.low, score.high])
        found["counts"][kind] = _each(scores, lambda score: score.n)
    return found


def _right(items: Sequence[Item], answers: ModelAnswers, kind: str) -> Right:
    return np.array([_RIGHT[kind](item, answers) for item in items], np.float64)


def _by(items: Sequence[Item], right: Right, name: Callable[[Item], str]) -> dict[str, Score]:
    names = [name(item) for item in items]
    return {each: mean_score(right[[n == each for n in names]]) for each in dict.fromkeys(names)}


def _each(scores: dict[str, Any], take: Callable[[Score], Any]) -> dict[str, Any]:
    return {
        name: {key: take(value) for key, value in score.items()} if isinstance(score, dict) else take(score)
        for name, score in scores.items()
    }


def facexbench_rows(report: dict[str, Any]) -> list[tuple[str, dict[str, tuple[float, float, float, int]]]]:
    """Row name → column ("model, kind") → (share, low, high, n): what the table and the plot show."""
    rows: dict[str, dict[str, tuple[float, float, float, int]]] = {}
    for model, whole in report["models"].items():
        for kind in KINDS:
            shares, apart = _flat(whole, kind), _flat(whole["without_overlap"], kind)
            if "overall" in apart:
                shares = {"overall": shares["overall"], "overall without overlap": apart["overall"], **shares}
            for row, cell in shares.items():
                rows.setdefault(row, {})[f"{model}, {kind}"] = cell
    return list(rows.items())


def _flat(block: dict[str, Any], kind: str) -> dict[str, tuple[float, float, float, int]]:
    """Row name → (share, low, high, n) of one kind; {} without it."""
    if block[kind] is None:
        return {}
    parts = [block[kind], block["intervals"][kind], block["counts"][kind]]
    found = {"overall": [part["overall"] for part in parts]}
    for level, mark in (("category", " (category)"), ("sub_category", "")):
        found |= {name + mark: [part[level][name] for part in parts] for name in parts[0][level]}
    return {name: (share, *interval, n) for name, (share, interval, n) in found.items()}


def facexbench_tables(report: dict[str, Any]) -> list[Table]:
    """Scores, comparisons, times."""
    columns = [f"{model}, {kind}" for model in report["models"] for kind in KINDS]
    rows = []
    for name, cells in facexbench_rows(report):
        number = next(iter(cells.values()))[3]
        shown = [Score(*cells[column]).percent() if column in cells else "no probabilities" for column in columns]
        rows.append([name, str(number), *shown])
    note = "" if report["complete"] else (
        f"Not the whole benchmark: {report['n']} of {QUESTIONS} questions, {report['files']} of {FILES} files."
    )  # fmt: skip
    for name, model in report["models"].items():
        silent = model["without_probabilities"]
        if 0 < silent < report["n"]:
            note += f" {name} gave no option's probability to {silent} questions: constrained, they count as wrong."
    tables = [Table("Accuracy, % [95 %]", ["", "n", *columns], rows, note.strip())]
    if report["comparisons"]:
        tables.append(comparison_table(report["comparisons"], "score"))
    times = [[name, f"{model['median_seconds']:.2f}"] for name, model in report["models"].items()]
    return [*tables, Table("Seconds a question, median", ["model", "s"], times)]
