"""``facellm convert`` and ``facellm parity``: doors to the converters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facellm.cli.output import ByteBar, Progress, write_json
from facellm.core.command import command
from facellm.core.errors import FaceLLMError

if TYPE_CHECKING:
    from facellm_converters.convert import Converted
    from facellm_converters.equality.compare import Report

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", re.IGNORECASE)


class ConvertersMissing(FaceLLMError):
    """The packages that converting needs are not installed."""


class NotEqual(FaceLLMError):
    """A pair that does not answer as its checkpoint does."""


def convert(
    checkpoint: Annotated[str, typer.Argument(help="Folder of a checkpoint, or a hub id such as owner/name.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the files; without it, where models are found.")] = None,
    quant: Annotated[str, typer.Option(help="F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M or IQ4_XS.")] = "Q8_0",
    mmproj_quant: Annotated[str, typer.Option(help="Of the image part: F32, F16, BF16 or Q8_0.")] = "F16",
    imatrix: Annotated[
        bool, typer.Option("--imatrix", help="Weigh Q6_K … IQ4_XS by what faces' questions use.")
    ] = False,
    adapter: Annotated[Path | None, typer.Option(help="Folder of a PEFT LoRA adapter, merged in.")] = None,
    keep_adapter: Annotated[bool, typer.Option("--keep-adapter", help="Keep it apart, as a file of its own.")] = False,
    name: Annotated[str, typer.Option(help="The model's name; without it, the checkpoint's.")] = "",
    licence: Annotated[str, typer.Option(help="Its licence, where the checkpoint does not say.")] = "",
    split: Annotated[str, typer.Option(help="Shards of at most this size, for example 2G.")] = "",
    revision: Annotated[str, typer.Option(help="Of a checkpoint on the hub.")] = "",
    verify: Annotated[bool, typer.Option("--verify", help="Then compare the answers of both.")] = False,
    self_test: Annotated[bool, typer.Option(help="Store what the engine checks when it loads the model.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace files of the same name.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Turn a checkpoint into the two GGUF files that FaceLLM loads."""
    require_converters()
    from facellm_converters.checkpoint.source import hub_id, resolve
    from facellm_converters.convert import Order
    from facellm_converters.convert import convert as run

    hub = hub_id(checkpoint, revision or None)
    name = name or (hub.name if hub is not None else "")
    where = out or _model_folder(f"{name or Path(checkpoint).resolve().name}-{quant.lower()}")
    with Progress() as progress:
        bar = ByteBar(progress)
        folder = resolve(checkpoint, revision=revision or None, cache=None, tell=bar)
        order = Order(
            folder, where, quant.upper(), mmproj_quant.upper(), adapter, keep_adapter, name, licence, _bytes(split),
            force, self_test, imatrix=imatrix,
        )  # fmt: skip
        done = run(order, bar)
        report = _compared(folder, adapter, done, progress) if verify else None
    _tell(done, report, json=json)
    if report is not None:
        _judge(report)


def parity(
    gguf: Annotated[Path, typer.Argument(help="A language GGUF with its mmproj beside it, or their folder.")],
    checkpoint: Annotated[Path, typer.Argument(help="The folder that it was made from.")],
    adapter: Annotated[Path | None, typer.Option(help="The LoRA adapter that was merged in.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Compare what a GGUF pair and its checkpoint answer, number by number."""
    require_converters()
    from facellm.models.packages import find_package
    from facellm.models.store import AssetStore
    from facellm_converters.equality.compare import compare_with

    package = find_package(str(gguf), AssetStore())
    with Progress() as progress:
        progress.doing("Comparing the answers of both")
        report = compare_with(checkpoint, adapter, package)
    if json:
        write_json(report.as_json())
    else:
        typer.echo(report.table())
    _judge(report)


def _compared(folder: Path, adapter: Path | None, done: Converted, progress: Progress) -> Report:
    from facellm.core.package import ModelPackage
    from facellm_converters.equality.compare import compare_with

    progress.doing("Comparing the answers of both")
    merged = adapter if done.adapter is None else None
    return compare_with(folder, merged, ModelPackage(done.language.stem, done.language, done.mmproj, 0))


def _judge(report: Report) -> None:
    if not report.equal:
        raise NotEqual("The pair does not answer as its checkpoint does.", "See the numbers; try a wider --quant.")


def require_converters() -> None:
    """Raise ``ConvertersMissing`` where the packages are not installed."""
    from importlib.util import find_spec

    missing = [name for name in ("facellm_converters", "safetensors", "gguf") if find_spec(name) is None]
    if missing:
        raise ConvertersMissing(
            f"Converting needs packages that are not installed ({', '.join(missing)}).",
            "From a checkout run: python3 run.py setup",
        )


def _model_folder(name: str) -> Path:
    from facellm.models.store import AssetStore
    from facellm_converters.provenance import file_name

    return AssetStore().models / file_name(name)


def _bytes(text: str) -> int:
    if not text:
        return 0
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text} is no size; write for example 500M or 2G.", param_hint="--split")
    return int(float(found[1]) * 1000 ** " KMGT".index(found[2].upper() or " "))


def _tell(done: Converted, report: Report | None, *, json: bool) -> None:
    files = {"language": done.language, "mmproj": done.mmproj, "adapter": done.adapter, "card": done.card}
    if json:
        row: dict[str, object] = {key: str(file) if file else None for key, file in files.items()}
        write_json(row | {"note": done.note, "equality": report.as_json() if report else None})
        return
    for file in filter(None, files.values()):
        typer.echo(str(file))
    if report is not None:
        typer.echo(report.table())
    if done.note:
        typer.echo(f"Note: {done.note}")
    typer.echo(f"Ask it: {command('ask', 'PHOTO', 'QUESTION', '--model', str(done.language))}")
