"""``facellm convert``: the door to the converters."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facellm.cli.output import Progress, write_json
from facellm.core.command import command
from facellm.core.errors import FaceLLMError

if TYPE_CHECKING:
    from facellm_converters.convert import Converted

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", re.IGNORECASE)
#: Seconds between two lines where there is no terminal.
_LINE_S = 5.0


class ConvertersMissing(FaceLLMError):
    """The packages that converting needs are not installed."""


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a checkpoint, as save_pretrained writes it.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the files; without it, where models are found.")] = None,
    quant: Annotated[str, typer.Option(help="F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M or IQ4_XS.")] = "Q8_0",
    mmproj_quant: Annotated[str, typer.Option(help="Of the image part: F32, F16, BF16 or Q8_0.")] = "F16",
    adapter: Annotated[Path | None, typer.Option(help="Folder of a PEFT LoRA adapter, merged in.")] = None,
    keep_adapter: Annotated[bool, typer.Option("--keep-adapter", help="Keep it apart, as a file of its own.")] = False,
    name: Annotated[str, typer.Option(help="The model's name; without it, the checkpoint's.")] = "",
    licence: Annotated[str, typer.Option(help="Its licence, where the checkpoint does not say.")] = "",
    split: Annotated[str, typer.Option(help="Shards of at most this size, for example 2G.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace files of the same name.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Turn a checkpoint into the two GGUF files that FaceLLM loads."""
    _require()
    from facellm_converters.convert import Order
    from facellm_converters.convert import convert as run

    where = out or _model_folder(name or checkpoint.resolve().name)
    order = Order(
        checkpoint, where, quant.upper(), mmproj_quant.upper(), adapter, keep_adapter, name, licence, _bytes(split),
        force,
    )  # fmt: skip
    with Progress() as progress:
        done = run(order, _Bar(progress))
    _tell(done, where, json=json)


def _require() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("facellm_converters", "safetensors", "gguf") if find_spec(name) is None]
    if missing:
        raise ConvertersMissing(
            f"Converting needs packages that are not installed ({', '.join(missing)}).",
            "From a checkout run: python3 run.py setup training",
        )


class _Bar:
    """One line: what, how much of it, how fast, how long still."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._step, self._begun, self._first, self._said = "", 0.0, 0, 0.0

    def __call__(self, step: str, done: int, total: int) -> None:
        now = time.monotonic()
        if step != self._step:
            self._step, self._begun, self._first = step, now, done
        elif now - self._said < (0.1 if os.isatty(2) else _LINE_S):
            return
        self._said = now
        rate = (done - self._first) / max(1e-3, now - self._begun)
        more = f", {rate / 1e6:.0f} MB/s, {(total - done) / rate:.0f} s left" if rate > 0 and total > done else ""
        share = f" {done / total:.0%} of {total / 1e6:,.0f} MB{more}" if total else ""
        self._progress.doing(f"{step}{share}")


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


def _tell(done: Converted, where: Path, *, json: bool) -> None:
    files = {"language": done.language, "mmproj": done.mmproj, "adapter": done.adapter, "card": done.card}
    if json:
        write_json({key: str(file) if file else None for key, file in files.items()})
        return
    for file in filter(None, files.values()):
        typer.echo(str(file))
    typer.echo(f"Ask it: {command('ask', 'PHOTO', 'QUESTION', '--model', str(where))}")
