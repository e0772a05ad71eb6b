"""``facellm models``: what is there, build the embedded model, check every byte, say where it lies."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facellm.cli.output import Progress, printable, write_json
from facellm.core.command import command
from facellm.core.errors import FaceLLMError

if TYPE_CHECKING:
    from facellm.core.package import ModelPackage
    from facellm.models.store import AssetStore

models_app = typer.Typer(help="Models: list, import, build, verify, path, ensure.", no_args_is_help=True)

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
    if json:
        for package in packages:
            write_json(package_row(package))
        return
    if packages:
        _show(
            ("model", "size", "picture", "title", "licence"),
            [
                (package.name, f"{_bytes(package) / MIB:.0f} MiB", f"{package.tile} px", package.title, package.licence)
                for package in packages
            ],
        )
    else:
        typer.echo(f"No model is here yet. Run: {command('models', 'build', 'nano')}")
    typer.echo(
        f"Add one: {command('models', 'import', 'SOURCE')}, or a folder in {store.models} with both of its files."
    )


def _bytes(package: ModelPackage) -> int:
    return package.llm.stat().st_size + package.mmproj.stat().st_size


def package_row(package: ModelPackage) -> dict[str, object]:
    """What ``--json`` says of a model."""
    return {
        "name": package.name, "title": package.title, "licence": package.licence, "tile": package.tile,
        "llm": str(package.llm), "mmproj": str(package.mmproj),
        "llm_bytes": package.llm.stat().st_size, "mmproj_bytes": package.mmproj.stat().st_size,
    }  # fmt: skip


def _show(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """A table on stdout; text only, since a model names itself."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*heads, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(printable(cell), overflow="fold") for cell in row))
    console = Console(highlight=False)
    with console.capture() as shown:  # written by us: rich ends the process by itself when a reader went away
        console.print(table)
    typer.echo(shown.get(), nl=False)


@models_app.command()
def build(
    name: Annotated[str, typer.Argument(help="The model to build; only nano is built here.")] = "nano",
    out: Annotated[Path | None, typer.Option(help="Folder to write to, instead of the model folder.")] = None,
    deltas: Annotated[Path | None, typer.Option(help="Trained deltas, instead of the ones shipped.")] = None,
    json: JsonOption = False,
) -> None:
    """Build the embedded model from its two carriers and the trained deltas. The same bytes every time."""
    from facellm.models.nano.build import build_nano
    from facellm.models.nano.pair import NAME
    from facellm.models.store import AssetStore

    if name != NAME:
        raise typer.BadParameter(
            f"{name} cannot be built; only {NAME} can. Other models are put into the model folder."
        )
    with Progress() as progress:
        package = build_nano(AssetStore(), _teller(progress), out=out, deltas=deltas)
    if json:
        write_json(package_row(package))
        return
    for file in (package.llm, package.mmproj):
        typer.echo(f"{file}  {file.stat().st_size / MIB:.1f} MiB")


def _teller(progress: Progress) -> Callable[[str, float], None]:
    """Per cent on a terminal, a line a stage elsewhere."""
    said = ""

    def tell(stage: str, share: float) -> None:
        nonlocal said
        if sys.stderr.isatty():
            progress.doing(f"{stage[0].upper()}{stage[1:]}: {share:.0%}")
        elif stage != said:
            said = stage
            progress.doing(f"{stage[0].upper()}{stage[1:]}")

    return tell


@models_app.command()
def verify(json: JsonOption = False) -> None:
    """Read every asset and the embedded model in full and compare hashes.

    Exit code 1 when one of them is damaged, or missing; the parts of which the model was built may be missing.
    """
    from facellm.models.ensure import FACE_MODELS
    from facellm.models.store import AssetStore

    store = AssetStore()
    needed, names = {*FACE_MODELS, "nano"}, [*store.names(), "nano"]
    rows = []
    with Progress() as progress:
        for name in names:
            progress.doing(f"Reading {name}")
            state, said, path = _nano_state(store) if name == "nano" else _asset_state(store, name)
            rows.append((name, state, said, str(path)))
    if json:
        for row in rows:
            write_json(dict(zip(("name", "state", "message", "path"), row, strict=True)))
    else:
        _show(("file", "state", "path"), [(name, said or state, path) for name, state, said, path in rows])
    wrong = {name: state for name, state, _, _ in rows if state == "damaged" or (state == "missing" and name in needed)}
    if wrong:
        said = ", ".join(f"{name} ({state})" for name, state in wrong.items())
        raise Unverified(
            f"Not as they should be: {said}.", _remedy({name: wrong[name] for name in wrong if name in needed})
        )


def _remedy(wrong: dict[str, str]) -> str:
    """What to do, by the states of those that are wrong and without which nothing can be asked."""
    build = {"nano"} if wrong.get("nano") == "damaged" else set()  # ensure looks at its headers only
    commands = [command("models", "ensure")] if wrong.keys() - build else []
    commands += [command("models", "build", "nano")] if build else []
    if not commands:
        return "Delete the damaged files: they are fetched again when a model is built."
    return f"Run: {', then: '.join(commands)}"


def _asset_state(store: AssetStore, name: str) -> tuple[str, str, Path]:
    """``ok``, ``missing`` or ``damaged``; a sentence for the last; where."""
    from facellm.models.store import AssetCorrupt, AssetMissing

    try:
        store.verify(name)
    except AssetMissing:
        return "missing", "", store.file(name)
    except AssetCorrupt as error:
        return "damaged", str(error), store.file(name)
    return "ok", "", store.file(name)


def _nano_state(store: AssetStore) -> tuple[str, str, Path]:
    """As ``_asset_state``; also ``outdated`` (of other deltas) and ``unrecorded`` (its hashes were not noted)."""
    from facellm.models.nano.pair import damaged_files, nano_is_current
    from facellm.models.packages import ModelMissing, find_package

    try:
        folder = find_package("nano", store).llm.parent
    except ModelMissing:
        return "missing", "", store.models / "nano"
    damaged = damaged_files(folder)
    if damaged:
        return "damaged", f"{' and '.join(damaged)}: not the bytes that were built", folder
    if not nano_is_current(store):
        return "outdated", f"built from other deltas; run: {command('models', 'ensure')}", folder
    return ("ok", "", folder) if damaged == [] else ("unrecorded", "", folder)


@models_app.command()
def path(
    name: Annotated[str, typer.Argument(help="A model's name, or the path of a folder or language GGUF.")] = "nano",
    json: JsonOption = False,
) -> None:
    """The two files of a model, one a line: language model, image encoder."""
    from facellm.models.packages import find_package
    from facellm.models.store import AssetStore

    package = find_package(name, AssetStore())
    if json:
        write_json(package_row(package))
        return
    typer.echo(str(package.llm))
    typer.echo(str(package.mmproj))


@models_app.command()
def ensure(json: JsonOption = False) -> None:
    """Fetch the face models and build the embedded model, where they are missing, damaged or out of date."""
    from facellm.models.ensure import FACE_MODELS, Console, ensure_all
    from facellm.models.packages import find_package
    from facellm.models.store import AssetStore

    store = AssetStore()
    ensure_all(store, Console())
    if json:
        write_json(
            {name: str(store.file(name)) for name in FACE_MODELS} | {"nano": package_row(find_package("nano", store))}
        )
