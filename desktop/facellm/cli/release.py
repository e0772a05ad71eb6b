"""``facellm release``: the door from a training recipe to models that a person can choose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facellm.cli.evaluate import Said
from facellm.cli.train import require_training
from facellm.core.command import command

if TYPE_CHECKING:
    from facellm.models.store import AssetStore
    from facellm_training.lora.recipe import LoraRecipe
    from facellm_training.release.run import Released


def release(
    recipe: Annotated[Path, typer.Argument(help="A LoRA recipe, for example training/recipes/facellm-1b.yaml.")],
    name: Annotated[str, typer.Option(help="The models' name; without it, the recipe's.")] = "",
    quant: Annotated[
        list[str] | None, typer.Option(help="Q8_0, Q4_K_M, … instead of the recipe's; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the models; without it, where models are found.")] = None,
    fairface: Annotated[
        Path | None, typer.Option(help="FairFace's parquet, to evaluate on, instead of the recipe's.")
    ] = None,
    facexbench: Annotated[
        Path | None, typer.Option(help="FaceXBench's folder, to evaluate on, instead of the recipe's.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Pictures, and questions of a file, at most.")] = None,
) -> None:
    """Train, merge, convert, compare, evaluate: a recipe becomes models in the list. What is done is not repeated."""
    require_training("torch", "transformers", "peft", "accelerate", "tensorboard", "matplotlib", "pyarrow", "scipy")
    from facellm.models.store import AssetStore
    from facellm_training.lora.recipe import read_recipe
    from facellm_training.release.run import release as run

    store = AssetStore()
    where = out or store.models
    settings = read_recipe(recipe)
    given: dict[str, Any] = {
        "quants": [kind.upper() for kind in quant or ()], "fairface": fairface, "facexbench": facexbench,
        "limit": limit,
    }  # fmt: skip
    wanted = replace(settings.release, **{key: value for key, value in given.items() if value})
    settings = replace(settings, release=wanted)
    _show(run(settings, name or recipe.stem, lambda model: where / model, typer.echo, Said()), settings, store)


def _show(done: Released, settings: LoraRecipe, store: AssetStore) -> None:
    from facellm.models.packages import list_packages
    from facellm_training.release.run import RELEASE

    for measured in done.measured:
        typer.echo("\n" + "\n\n".join(table.markdown() for table in measured.tables()))
    for verdict in (line for measured in done.measured for line in measured.verdicts):
        typer.echo(f"\n{verdict[:1].upper()}{verdict[1:]}")
    listed = {package.llm.resolve(): package for package in list_packages(store)}
    typer.echo("")
    for pair in done.pairs:
        package = listed.get(pair.language.resolve())
        seen = f"in the list of models as {package.name}" if package else "not where models are looked for (--out)"
        typer.echo(f"{pair.kind}: {pair.language}, {seen}")
    first = done.pairs[0]
    chosen = listed.get(first.language.resolve())
    typer.echo(f"Report: {settings.out / RELEASE}. Card: {first.card}")
    typer.echo(f"Ask it: {command('ask', 'PHOTO', 'QUESTION', '--model')} {chosen.name if chosen else first.language}")
