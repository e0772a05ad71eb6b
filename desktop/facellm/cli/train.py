"""``facellm train``, ``checkpoint`` and ``evaluate``: doors to the training package, which installers lack."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from facellm.core.command import command
from facellm.core.errors import FaceLLMError

evaluate_app = typer.Typer(help="Measure a model on labelled faces.", no_args_is_help=True)


class TrainingMissing(FaceLLMError):
    """The training packages are not installed."""


def require_training(*packages: str) -> None:
    """``packages``: those that the command needs; without any, what evaluation needs."""
    from importlib.util import find_spec

    needed = ("facellm_training", *(packages or ("pyarrow", "scipy")))
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise TrainingMissing(
            f"Training and evaluation need packages that are not installed ({', '.join(missing)}).",
            "From a checkout run: python3 run.py setup training",
        )


def train(recipe: Annotated[Path, typer.Argument(help="A recipe, for example training/recipes/nano.yaml.")]) -> None:
    """Train a model from a recipe. A killed run goes on where it was."""
    require_training()
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise TrainingMissing("Training needs PyTorch.", "From a checkout run: python3 run.py setup training")
    from facellm_training.nano.recipe import read_recipe
    from facellm_training.nano.run import CHECKPOINT, train_nano

    where = f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()} {platform.system()}, recipe {recipe.name}"
    deltas = train_nano(read_recipe(recipe), trained=where)
    typer.echo(f"Deltas: {deltas}")
    typer.echo(f"Try them: {command('models', 'build', 'nano')} --deltas {deltas} --out FOLDER")
    typer.echo(f"As other sizes: {command('convert', str(deltas.with_name(CHECKPOINT)))} --quant Q4_K_M")


def checkpoint(
    out: Annotated[Path, typer.Argument(help="Folder for the checkpoint, 861 MB.")],
    deltas: Annotated[Path | None, typer.Option(help="Trained deltas, instead of the ones shipped.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a checkpoint that is there.")] = False,
) -> None:
    """Write the embedded model as a checkpoint that convert takes: its two carriers and the trained deltas joined."""
    require_training("safetensors")
    from facellm.cli.output import Progress
    from facellm.models.nano.pair import DELTAS
    from facellm.models.store import AssetStore
    from facellm_training.nano.checkpoint import write_checkpoint

    with Progress() as progress:
        progress.doing("Joining the carriers and the trained deltas")
        write_checkpoint(out, AssetStore(), deltas or DELTAS, force=force)
    typer.echo(str(out))
    typer.echo(f"Convert it: {command('convert', str(out))}")


@evaluate_app.command()
def fairface(
    data: Annotated[Path, typer.Option(help="Folder with FairFace parquet and attributes-*.jsonl.")],
    out: Annotated[Path, typer.Option(help="Where answers and report go; a killed run goes on there.")],
    model: Annotated[str, typer.Option(help="A model's name or folder.")] = "nano",
    split: Annotated[str, typer.Option(help="validation, or train: its held-out part only.")] = "validation",
    limit: Annotated[int | None, typer.Option(help="At most so many pictures.")] = None,
    labelled: Annotated[bool, typer.Option(help="Only pictures with attribute labels.")] = False,
    swapped: Annotated[bool, typer.Option(help="Ask about each picture with another one in its place.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The report as one JSON line on stdout.")] = False,
) -> None:
    """Closed questions on FairFace, through the same engine as the product's."""
    require_training()
    from facellm.cli.output import write_json
    from facellm.models.packages import find_package
    from facellm.models.store import AssetStore
    from facellm_training.data.measured import measure_split
    from facellm_training.evaluate.fairface import FairFaceRun, evaluate_fairface
    from facellm_training.evaluate.report import markdown

    store = AssetStore()
    out.mkdir(parents=True, exist_ok=True)
    measured = out / f"measured-{split}.jsonl"
    measure_split(data, split, measured, store)
    run = FairFaceRun(data, out, measured, split, limit, labelled, swapped)
    report = evaluate_fairface(find_package(model, store), run)
    if json:
        write_json(report)
    else:
        typer.echo(markdown(report))


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
