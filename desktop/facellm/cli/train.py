"""``facellm train`` and ``checkpoint``: doors to the training package, which installers lack."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from facellm.core.command import command
from facellm.core.errors import FaceLLMError


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
    """Train a model from a recipe: the embedded one, or a LoRA of an InternVL checkpoint. A killed run goes on."""
    require_training()
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise TrainingMissing("Training needs PyTorch.", "From a checkout run: python3 run.py setup training")
    from facellm_training.lora.recipe import KIND, recipe_kind

    if recipe_kind(recipe) == KIND:
        _train_lora(recipe)
        return
    from facellm_training.nano.recipe import read_recipe
    from facellm_training.nano.run import CHECKPOINT, train_nano

    where = f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()} {platform.system()}, recipe {recipe.name}"
    deltas = train_nano(read_recipe(recipe), trained=where)
    typer.echo(f"Deltas: {deltas}")
    typer.echo(f"Try them: {command('models', 'build', 'nano')} --deltas {deltas} --out FOLDER")
    typer.echo(f"As other sizes: {command('convert', str(deltas.with_name(CHECKPOINT)))} --quant Q4_K_M")


def _train_lora(recipe: Path) -> None:
    require_training("transformers", "peft", "accelerate", "tensorboard")
    from facellm_training.lora.bases import located
    from facellm_training.lora.recipe import NANO, read_recipe
    from facellm_training.lora.run import train_lora

    settings = read_recipe(recipe)
    adapter = train_lora(settings, typer.echo)
    typer.echo(f"Adapter: {adapter}")
    typer.echo(f"Report: {adapter.with_name('report.md')}")
    # Only recipes know the embedded model by its name.
    base = str(located(settings, lambda *_: None, lambda _: None)) if settings.base == NANO else settings.base
    typer.echo(f"Use it: {command('convert', base)} --adapter {adapter} --quant Q8_0")


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
