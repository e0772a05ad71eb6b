"""``facellm evaluate``: doors to the training package's measurements, which installers lack."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facellm.cli.train import require_training

if TYPE_CHECKING:
    from facellm_training.evaluate.results import Results
    from facellm_training.evaluate.run import Run

evaluate_app = typer.Typer(help="Measure models on labelled faces.", no_args_is_help=True)

#: Seconds between two lines of progress where there is no terminal.
_LINE_S = 15.0

Models = Annotated[
    list[str],
    typer.Option(
        "--model",
        help="A model's name, folder or GGUF; an InternVL checkpoint's folder; http://HOST/v1#MODEL. Several give "
        "one table; LABEL=MODEL names a column.",
    ),
]
Out = Annotated[Path | None, typer.Option(help="Where answers and report go; a killed run goes on there.")]
Json = Annotated[bool, typer.Option("--json", help="The report as one JSON line on stdout.")]
Yes = Annotated[bool, typer.Option("--yes", help="Send the pictures to a server on another computer.")]


@evaluate_app.command()
def facexbench(
    root: Annotated[Path, typer.Option(help="FaceXBench's folder, with benchmark/*.json in it.")],
    model: Models = ["nano"],  # noqa: B006 - typer reads it
    mode: Annotated[str, typer.Option(help="zero-shot, in-context or chain-of-thought.")] = "zero-shot",
    out: Out = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many questions of each file.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest free answer, in tokens.")] = 500,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """FaceXBench: its own answer parsing and letter-constrained decoding, side by side."""
    require_training("matplotlib", "pyarrow", "scipy")
    from facellm_training.evaluate.facexbench import MODES
    from facellm_training.evaluate.run import run_facexbench

    if mode not in MODES:
        raise typer.BadParameter(f"choose one of {', '.join(MODES)}", param_hint="--mode")
    chosen = MODES[MODES.index(mode)]
    run = _run(model, out, f"facexbench-{mode}", yes)
    _show(run_facexbench(run, root, chosen, limit, max_tokens), run.out, json)


@evaluate_app.command()
def fairface(
    data: Annotated[Path, typer.Option(help="FairFace's parquet: a folder (attributes-*.jsonl beside), or one file.")],
    model: Models = ["nano"],  # noqa: B006 - typer reads it
    out: Out = None,
    split: Annotated[str, typer.Option(help="validation, or train: its held-out part only.")] = "validation",
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many pictures.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this one, for example age; may be repeated.")] = None,
    labelled: Annotated[bool, typer.Option(help="Only pictures with attribute labels.")] = False,
    pose: Annotated[
        bool, typer.Option(help="Ask for the head's direction, too: measures every picture first.")
    ] = False,
    swapped: Annotated[bool, typer.Option(help="Ask about each picture with another one in its place.")] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Closed questions on FairFace, answers constrained to the options, with calibration and gaps between groups."""
    require_training("matplotlib", "pyarrow", "scipy")
    from facellm.models.store import AssetStore
    from facellm_training.data.measured import measure_split
    from facellm_training.evaluate.labelled import FairFaceSource
    from facellm_training.evaluate.run import run_fairface

    run = _run(model, out, f"fairface-{split}{'-swapped' if swapped else ''}", yes)
    measured = run.out / f"measured-{split}.jsonl"
    if pose:
        run.out.mkdir(parents=True, exist_ok=True)
        measure_split(data, split, measured, AssetStore())
    source = FairFaceSource(data, split, limit, labelled, swapped, measured)
    _show(run_fairface(run, replace(source, tasks=tuple(task)) if task else source), run.out, json)


@evaluate_app.command()
def sheet(
    sheet: Annotated[Path, typer.Argument(help="Question sheet, YAML: questions, options, column with the truth.")],
    images: Annotated[Path, typer.Option(help="Folder that the pictures' paths are relative to.")],
    labels: Annotated[Path | None, typer.Option(help="CSV with the labels; else labels.csv in the folder.")] = None,
    model: Models = ["nano"],  # noqa: B006 - typer reads it
    out: Out = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Own closed questions over any folder of labelled pictures."""
    require_training("matplotlib", "pyarrow", "scipy", "yaml")
    from facellm_training.evaluate.run import run_sheet

    run = _run(model, out, f"sheet-{sheet.stem}", yes)
    _show(run_sheet(run, sheet, images, labels or images / "labels.csv"), run.out, json)


@evaluate_app.command()
def portraits(
    data: Annotated[Path, typer.Option(help="Folder with portraits and a labels.csv (file, gender, expression).")],
    model: Annotated[str, typer.Option(help="A model's name or folder.")] = "nano",
    json: Annotated[bool, typer.Option("--json", help="The scores as one JSON line on stdout.")] = False,
) -> None:
    """Labelled portraits the whole way: file, finder, crop, question. Nothing is stored."""
    require_training()
    from facellm.cli.output import write_json
    from facellm.models.packages import find_package
    from facellm.models.store import AssetStore
    from facellm_training.evaluate.portraits import evaluate_portraits

    store = AssetStore()
    scores = evaluate_portraits(find_package(model, store), data, store)
    if json:
        write_json(scores)
        return
    for name, score in scores.items():
        low, high = 100 * score["low"], 100 * score["high"]
        typer.echo(f"{name}: {100 * score['value']:.1f} % [{low:.1f}, {high:.1f}] of {score['n']}")


def _run(models: list[str], out: Path | None, name: str, remote: bool) -> Run:
    from facellm_training.evaluate.run import Run

    return Run(models, out or Path("runs") / "evaluate" / name, Said(), remote)


class Said:
    """Progress on stderr: how far, and how long still."""

    def __init__(self) -> None:
        self._model, self._begun, self._first, self._said = "", 0.0, 0, 0.0

    def __call__(self, model: str, done: int, total: int) -> None:
        now = time.monotonic()
        if model != self._model:
            self._model, self._begun, self._first = model, now, done
        elif done < total and now - self._said < (0.2 if os.isatty(2) else _LINE_S):
            return
        self._said = now
        rate = (done - self._first) / max(1e-3, now - self._begun)
        left = f", {(total - done) / rate:.0f} s left" if rate > 0 and done < total else ""
        end = "\r" if os.isatty(2) and done < total else "\n"
        typer.echo(f"{model}: {done} of {total} questions{left}   {end}", err=True, nl=False)


def _show(results: Results, out: Path, json: bool) -> None:
    from facellm.cli.output import printable, write_json

    if json:
        write_json(results.report | {"skipped": results.skipped})
    else:
        typer.echo(printable(results.brief()))
    typer.echo(f"Report: {out / 'report.html'}", err=True)
