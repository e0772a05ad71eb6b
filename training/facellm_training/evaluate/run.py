"""``facellm evaluate facexbench``, ``fairface`` and ``sheet``: from data and models to the written report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from facellm_training.evaluate.asking import Asked, Tell, ask_models
from facellm_training.evaluate.backends import Backend, open_backend
from facellm_training.evaluate.facexbench import MAX_TOKENS, Mode, read_facexbench
from facellm_training.evaluate.facexbench_report import facexbench_report, facexbench_rows, facexbench_tables
from facellm_training.evaluate.items import EvaluationError, Item
from facellm_training.evaluate.labelled import FairFaceSource, Labelled, read_fairface_items
from facellm_training.evaluate.labelled_report import labelled_report, labelled_tables
from facellm_training.evaluate.plots import Cells, confusion_plot, reliability_plot, score_plot
from facellm_training.evaluate.results import Results, write_results
from facellm_training.evaluate.sheet import read_sheet, read_sheet_items


@dataclass(frozen=True, slots=True)
class Run:
    """``models``: as ``open_backend`` takes them, each optionally as ``LABEL=MODEL``. ``out``: a folder of this
    evaluation's own; a killed run goes on there. ``remote``: pictures may be sent to another machine."""

    models: Sequence[str]
    out: Path
    tell: Tell
    remote: bool = False

    def opened(self) -> dict[str, Callable[[], Backend]]:
        """Column name → how to open the model. Raises ``EvaluationError`` for two columns of one name."""
        found: dict[str, Callable[[], Backend]] = {}
        for given in self.models:
            label, name = named(given)
            if label in found:
                raise EvaluationError(f"Two models are called {label}.", "Write LABEL=MODEL to tell them apart.")
            found[label] = lambda name=name: open_backend(name, remote_allowed=self.remote)  # type: ignore[misc]
        return found


def named(given: str) -> tuple[str, str]:
    """(column name, model) of ``LABEL=MODEL`` or of a model alone, which is named by its last part."""
    label, equals, name = given.partition("=")
    if equals and label and "/" not in label:
        return label, name
    return given.rstrip("/").rpartition("#" if "#" in given else "/")[2], given


def run_facexbench(run: Run, root: Path, mode: Mode = "zero-shot", limit: int | None = None,
                   max_tokens: int = MAX_TOKENS) -> Results:  # fmt: skip
    """``limit``: questions of each file at most."""
    benchmark = read_facexbench(root, mode, max_tokens)
    items, seen = [], dict[str, int]()
    for item in benchmark.items:
        file = item.id.rpartition(":")[0]
        seen[file] = seen.get(file, 0) + 1
        if limit is None or seen[file] <= limit:
            items.append(item)
    asked = ask_items(run, items, benchmark.skipped)
    report = facexbench_report(asked, benchmark, mode)
    about = {"benchmark": "FaceXBench", "root": str(root), "mode": mode, "limit": limit, "max_tokens": max_tokens}
    plots = [("scores", score_plot(facexbench_rows(report), f"FaceXBench, {mode}"))]
    results = Results(f"FaceXBench, {mode}", asked, report, facexbench_tables(report), plots, about)
    write_results(results, run.out)
    return results


def run_fairface(run: Run, source: FairFaceSource) -> Results:
    """Age, gender, race behind its switch, and attributes; raises what reading and asking raise."""
    about = {"benchmark": "FairFace", **{name: str(value) for name, value in asdict(source).items()}}
    return _run_labelled(run, f"FairFace, {source.split}", read_fairface_items(source), about)


def run_sheet(run: Run, sheet: Path, images: Path, labels: Path) -> Results:
    """The questions of ``sheet`` over the pictures that ``labels`` (CSV) names below ``images``."""
    found = read_sheet(sheet)
    about = {"sheet": found.name, "images": str(images), "labels": str(labels), "questions": sheet.read_text("utf-8")}
    return _run_labelled(run, found.name, read_sheet_items(found, images, labels), about)


def _run_labelled(run: Run, title: str, labelled: Labelled, about: dict[str, Any]) -> Results:
    asked = ask_items(run, labelled.items, labelled.skipped)
    report = labelled_report(asked, labelled.ordinal)
    results = Results(title, asked, report, labelled_tables(report), _plots(asked, report, title), about)
    write_results(results, run.out)
    return results


def ask_items(run: Run, items: Sequence[Item], skipped: dict[str, str]) -> Asked:
    """Every item of every model of the run. Raises ``EvaluationError``, and what ``ask_models`` raises."""
    try:
        run.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"{run.out} cannot be made: {error.strerror}.", "Choose another --out.") from error
    return ask_models(items, run.opened(), run.out, run.tell, skipped)


def _plots(asked: Asked, report: dict[str, Any], title: str) -> list[tuple[str, bytes]]:
    models = report["models"]
    rows: list[tuple[str, Cells]] = [
        (task, {name: _cell(model["scores"][task]) for name, model in models.items()}) for task in report["scores"]
    ]
    plots = [("accuracy", score_plot(rows, title))]
    options = {item.task: item.options for item in asked.items}
    for task in options:
        curves = {
            f"{name}, {how}": bins for name, model in models.items()
            for how, bins in model["reliability"].get(task, {}).items()
        }  # fmt: skip
        if curves:
            plots.append((f"reliability of {task}", reliability_plot(curves, f"{task}: is it as sure as right?")))
    first, whole = next(iter(models.items()))
    plots += [
        (f"confusion of {task}", confusion_plot(whole["confusion"][task], names, f"{task}, {first}"))
        for task, names in options.items() if len(names) > 2
    ]  # fmt: skip
    return plots + [(f"groups of {task}", score_plot(rows, f"{task}, by group"))
                    for task in options if (rows := _group_rows(report, task))]  # fmt: skip


def _group_rows(report: dict[str, Any], task: str) -> list[tuple[str, Cells]]:
    """Of every way to group the pictures of one question."""
    return [
        (f"{what.removeprefix(task + ' by ')}: {who}",
         {name: _group_cell(model["groups"][what], who) for name, model in report["models"].items()})
        for what, group in report["groups"].items() if what.startswith(f"{task} by ") for who in group["accuracy"]
    ]  # fmt: skip


def _cell(score: dict[str, Any]) -> tuple[float, float, float, int]:
    return score["value"], score["low"], score["high"], score["n"]


def _group_cell(group: dict[str, Any], who: str) -> tuple[float, float, float, int]:
    return group["accuracy"][who], *group["interval"][who], group["n"][who]
