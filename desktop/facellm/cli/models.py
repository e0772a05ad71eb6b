"""``facellm models``: what is there, build the embedded model, check every byte, say where it lies."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from facellm.cli.output import Progress, write_json
from facellm.core.errors import FaceLLMError
from facellm.core.package import ModelPackage

models_app = typer.Typer(help="Models: list, build, verify, path.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")]

MIB = 2**20


class Unverified(FaceLLMError):
    """Something on disk is not what it should be."""


@models_app.command("list")
def list_models(json: JsonOption = False) -> None:
    """Models on this computer, the embedded one first."""
    from facellm.models.packages import list_packages
    from facellm.models.store import AssetStore

    store = AssetStore()
    packages = list_packages(store)
    for package in packages:
        row = _row(package)
        if json:
            write_json(row)
        else:
            size = (package.llm.stat().st_size + package.mmproj.stat().st_size) / MIB
            typer.echo(f"{package.name:16} {size:6.0f} MiB  {package.title}  ({package.licence or 'licence unknown'})")
    if not packages and not json:
        typer.echo("No model is here yet. Run: facellm models build nano")
    if not json:
        typer.echo(f"Add one: a folder in {store.models} with its language GGUF and its mmproj GGUF.")


def _row(package: ModelPackage) -> dict[str, object]:
    return {
        "name": package.name, "title": package.title, "licence": package.licence, "tile": package.tile,
        "llm": str(package.llm), "mmproj": str(package.mmproj),
        "llm_bytes": package.llm.stat().st_size, "mmproj_bytes": package.mmproj.stat().st_size,
    }  # fmt: skip


@models_app.command()
def build(
    name: Annotated[str, typer.Argument(help="The model to build; only nano is built here.")] = "nano",
    out: Annotated[Path | None, typer.Option(help="Folder to write to, instead of the model folder.")] = None,
    deltas: Annotated[Path | None, typer.Option(help="Trained deltas, instead of the ones shipped.")] = None,
) -> None:
    """Build the embedded model from its two carriers and the trained deltas. The same bytes every time."""
    from facellm.models.nano.build import NAME, build_nano
    from facellm.models.nano.deltas import DELTAS
    from facellm.models.store import AssetStore

    if name != NAME:
        raise typer.BadParameter(
            f"{name} cannot be built; only {NAME} can. Other models are put into the model folder."
        )
    with Progress() as progress:
        package = build_nano(
            AssetStore(), lambda stage, share: _tell(progress, stage, share), out=out, deltas=deltas or DELTAS
        )
    for file in (package.llm, package.mmproj):
        typer.echo(f"{file}  {file.stat().st_size / MIB:.1f} MiB")


def _tell(progress: Progress, stage: str, share: float) -> None:
    if sys.stderr.isatty() or share in (0.0, 1.0):
        progress.doing(f"{stage[0].upper()}{stage[1:]}: {share:.0%}")


@models_app.command()
def verify(json: JsonOption = False) -> None:
    """Read every asset and model file in full and compare its hash. Exit code 1 when something is wrong."""
    from facellm.models.store import AssetMissing, AssetStore

    store, wrong = AssetStore(), []
    for name in store.names():
        try:
            store.verify(name)
            state = "ok"
        except AssetMissing:
            state = "missing"
        except FaceLLMError as error:
            state = str(error)
            wrong.append(name)
        _say(json, name, state, str(store.file(name)))
    state, fault = _nano_state(store)
    _say(json, "nano", state, str(store.models / "nano"))
    if fault:
        wrong.append("nano")
    if wrong:
        raise Unverified(f"Not as they should be: {', '.join(wrong)}.", "Delete them and run: facellm models ensure")


def _nano_state(store: object) -> tuple[str, bool]:
    """What is said of the embedded model, and whether that is a fault."""
    from facellm.models.nano.build import NAME, nano_is_current
    from facellm.models.store import AssetStore

    assert isinstance(store, AssetStore)
    if not (store.models / NAME).is_dir():
        return "not built", False
    if nano_is_current(store):
        return "ok", False
    return "built from other deltas, or damaged", True


def _say(as_json: bool, name: str, state: str, path: str) -> None:
    if as_json:
        write_json({"name": name, "state": state, "path": path})
    else:
        typer.echo(f"{name:20} {state:10} {path}")


@models_app.command()
def path(name: Annotated[str, typer.Argument(help="A model's name.")] = "nano") -> None:
    """The two files of a model, one a line: language model, image encoder."""
    from facellm.models.packages import find_package
    from facellm.models.store import AssetStore

    package = find_package(name, AssetStore())
    typer.echo(str(package.llm))
    typer.echo(str(package.mmproj))


@models_app.command()
def ensure() -> None:
    """Fetch the face models and build the embedded model, where they are missing."""
    from facellm.models.ensure import Console, ensure_all
    from facellm.models.store import AssetStore

    ensure_all(AssetStore(), Console())
