"""``facellm models import``: a GGUF pair is copied, a checkpoint converted; what the engine takes becomes a model."""

from __future__ import annotations

import contextlib
import json as json_module
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from facellm.cli.convert import require_converters
from facellm.cli.models import package_row
from facellm.cli.output import ByteBar, Progress, write_json
from facellm.cli.unexpected import as_error
from facellm.core.child import end_with_parent
from facellm.core.command import command
from facellm.core.file_names import as_file_name

if TYPE_CHECKING:
    from facellm.core.package import ModelPackage
    from facellm.engine.protocol import Loading
    from facellm.models.importing import Found, ImportOrder, Pair, SourceKind
    from facellm.models.store import AssetStore
    from facellm_converters.checkpoint.hub_pair import PairNames

#: Told what is being done, bytes done and bytes in all; 0 where that is not known.
Tell = Callable[[str, int, int], None]

#: Seconds between two lines of the child about the same step.
_QUIET_S = 0.1


@dataclass(frozen=True, slots=True)
class Imported:
    """A model that is in its place. ``notes``: sentences about what is not quite as it might be."""

    package: ModelPackage
    notes: tuple[str, ...]


def import_model(
    source: Annotated[str, typer.Argument(help="A folder, a language GGUF, or a model of the hub: owner/name.")],
    quant: Annotated[str, typer.Option(help="F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M or IQ4_XS.")] = "Q8_0",
    mmproj_quant: Annotated[str, typer.Option(help="Of the image part: F32, F16, BF16 or Q8_0.")] = "F16",
    adapter: Annotated[Path | None, typer.Option(help="Folder of a PEFT LoRA adapter, merged in.")] = None,
    name: Annotated[str, typer.Option(help="The model's name; without it, the source's.")] = "",
    revision: Annotated[str, typer.Option(help="Of a model on the hub.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Replace the model of that name.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Make a model of what is there: a GGUF pair is copied, a checkpoint or a model of the hub is converted.

    It is tried once in the engine; what fails there is not kept.
    """
    from facellm.models.importing import ImportOrder
    from facellm.models.store import AssetStore

    order = ImportOrder(
        source, name, quant.upper(), mmproj_quant.upper(), str(adapter) if adapter else "", revision, replace
    )
    with Progress() as progress:
        done = run_import(order, AssetStore(), ByteBar(progress))
    if json:
        write_json(package_row(done.package) | {"notes": list(done.notes)})
        return
    for file in (done.package.llm, done.package.mmproj):
        typer.echo(str(file))
    for note in done.notes:
        typer.echo(f"Note: {note}")
    typer.echo(f"Ask it: {command('ask', 'PHOTO', 'QUESTION', '--model', done.package.name)}")


def run_import(order: ImportOrder, store: AssetStore, tell: Tell) -> Imported:
    """Copy or convert into a hidden folder, try the pair, give it its name. The source is never changed.

    Raises a ``FaceLLMError`` with a hint; of a failed or interrupted import nothing stays.
    """
    from facellm.models.importing import SourceKind, find_pair, local_path, recognise
    from facellm.models.staging import check_elsewhere, model_name, publish_package, staging

    tell("looking", 0, 0)
    found = recognise(order.source)
    _check_order(order, found.kind)
    name = model_name(store, order.name or found.name, replace=order.replace)
    path = local_path(order.source)
    pair = find_pair(path) if path is not None else None
    if pair is not None:
        check_elsewhere(pair, store)
    if found.kind is not SourceKind.PAIR:
        require_converters()
    with staging(store, name) as folder:
        notes = (
            _copy(pair, folder, tell) if pair is not None else _convert(order, path, _title(order, found), folder, tell)
        )
        notes += _try(folder, tell)
        tell("putting it in place", 0, 0)
        return Imported(publish_package(folder, store, name, replace=order.replace), notes)


def _check_order(order: ImportOrder, kind: SourceKind) -> None:
    from facellm.models.importing import ImportRefused, SourceKind

    if kind is SourceKind.PAIR and order.adapter:
        raise ImportRefused(
            "An adapter is merged into a checkpoint, and this is a GGUF pair.", "Import the checkpoint, or no adapter."
        )
    if kind is not SourceKind.HUB and order.revision:
        raise ImportRefused(f"What is on this computer has no revision {order.revision}.", "Leave the revision out.")


def _copy(pair: Pair, folder: Path, tell: Tell) -> tuple[str, ...]:
    from facellm.models.staging import copy_pair

    copy_pair(pair, folder, tell)
    return ()


def _title(order: ImportOrder, found: Found) -> str:
    """What a converted model is called in its files, whose names are made of it, too."""
    title = order.name or found.title.rpartition("/")[2]
    return title if as_file_name(title) else found.name


def _convert(order: ImportOrder, path: Path | None, title: str, folder: Path, tell: Tell) -> tuple[str, ...]:
    """A checkpoint, or what the hub has: that is fetched first, and copied where it is a pair already."""
    from facellm.models.importing import ImportRefused, checkpoint_folder, pair_of_files, unquoted
    from facellm_converters.convert import Order, convert

    if path is None:
        path, pair = _fetched(order, tell)
        if pair is not None:
            if order.adapter:
                raise ImportRefused(
                    f"An adapter is merged into a checkpoint, and {order.source} is converted already.",
                    "Import the checkpoint that it was made from, or no adapter.",
                )
            return _copy(pair_of_files(path / pair.language[0], path / pair.mmproj), folder, tell)
    adapter = Path(unquoted(order.adapter)).expanduser() if order.adapter else None
    asked = Order(checkpoint_folder(path), folder, order.quant.upper(), order.mmproj_quant.upper(), adapter, name=title)
    note = convert(asked, tell).note
    return (note,) if note else ()


def _fetched(order: ImportOrder, tell: Tell) -> tuple[Path, PairNames | None]:
    """Where the hub's model now is, and its pair's names where it is one."""
    from facellm.models.hub_id import read_hub_id
    from facellm.models.importing import unquoted
    from facellm_converters.checkpoint.hub_pair import PairKinds
    from facellm_converters.checkpoint.source import resolve_hub

    hub = read_hub_id(unquoted(order.source), order.revision)
    assert hub is not None  # that is how it was recognised
    return resolve_hub(hub, PairKinds(order.quant.upper(), order.mmproj_quant.upper()), tell)


def _try(folder: Path, tell: Tell) -> tuple[str, ...]:
    """Load the staged pair once, its self-test with it. Raises the engine's errors; want of memory is a note only."""
    from facellm.engine.client import EngineClient
    from facellm.engine.errors import OutOfMemory
    from facellm.engine.package_check import stored_bytes
    from facellm.models.packages import read_package

    package = read_package(folder)
    size = stored_bytes(package.llm) + stored_bytes(package.mmproj)

    def loading(event: Loading) -> None:
        tell(f"trying it: {event.stage}", int(event.fraction * size), size)

    tell("trying it", 0, size)
    try:
        with EngineClient(package) as engine:
            engine.load(loading)
    except OutOfMemory as error:
        return (f"It was not tried. {error}",)
    return ()


def main() -> None:
    """The window's child: the order comes as JSON on the first line of standard input, which then is left open.

    Lines of JSON go out: ``step``, ``done``, ``total``; in the end ``name``, ``title``, ``notes``, or ``error``,
    ``hint``. When standard input is closed, the import is interrupted and cleans up.
    """
    from facellm.models.importing import ImportOrder
    from facellm.models.store import AssetStore

    out = _take_output()
    try:
        order = ImportOrder(**json_module.loads(sys.stdin.readline()))
        end_with_parent()
        done = run_import(order, AssetStore(), _teller(out))
        _write(out, name=done.package.name, title=done.package.title, notes=list(done.notes))
    except (KeyboardInterrupt, BrokenPipeError):  # cancelled, or the window is gone
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the outermost boundary: also of what nobody has foreseen
        said = as_error(error)
        with contextlib.suppress(OSError):
            _write(out, error=str(said), hint=said.hint)


def _take_output() -> TextIO:
    """Move the pipe out of the way: what a library prints must not land among the lines."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def _teller(out: TextIO) -> Tell:
    """Passes on each new step, and of one step no more than some ten lines a second."""
    step, said = "", 0.0

    def tell(what: str, done: int, total: int) -> None:
        nonlocal step, said
        now = time.monotonic()
        if what != step or now - said >= _QUIET_S:
            step, said = what, now
            _write(out, step=what, done=done, total=total)

    return tell


def _write(out: TextIO, **message: object) -> None:
    out.write(json_module.dumps(message) + "\n")
    out.flush()
