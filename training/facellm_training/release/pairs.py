"""A GGUF pair of the trained model or of its base: converted, compared with the checkpoint, and made only once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from facellm.core.package import ModelPackage
from facellm_converters.convert import Order, convert
from facellm_converters.equality.compare import compare_with
from facellm_training.lora.record import commit
from facellm_training.progress import percent

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Pair:
    """``column``: its name in the tables. ``card``: the file that describes it, ``files`` what the converter wrote into
    that. ``equal``, ``table``: how it compares with the checkpoint that it was made from. ``offered``: it is one of
    those that the release is for; the others are there to be compared with."""

    column: str
    title: str
    kind: str
    language: Path
    mmproj: Path
    card: Path
    files: str
    equal: bool
    table: str
    offered: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """A pair to make: of ``base`` alone, or with ``adapter`` merged in. ``kind``: for example "Q8_0"."""

    column: str
    title: str
    kind: str
    folder: Path
    base: Path
    adapter: Path | None
    offered: bool


def make_pair(wanted: Wanted, records: Path, tell: Tell) -> Pair:
    """Convert and compare, or take what an earlier release of the same adapter left.

    ``records``: folder that remembers what was made. Raises ``ConversionError``.
    """
    made_from = _made_from(wanted)
    record = records / f"{wanted.column.lower()}.json"
    known = _known(record, made_from)
    if known is not None:
        tell(f"{wanted.title} is there already")
        return known
    tell(f"Converting {wanted.title}")
    order = Order(wanted.base, wanted.folder, wanted.kind, adapter=wanted.adapter, name=wanted.title, force=True)
    files = convert(order, percent(tell))
    tell(f"Comparing {wanted.title} with its checkpoint")
    report = compare_with(wanted.base, wanted.adapter, ModelPackage(wanted.title, files.language, files.mmproj, 0))
    tell(report.table())
    pair = Pair(
        wanted.column, wanted.title, wanted.kind, files.language, files.mmproj, files.card,
        files.card.read_text("utf-8"), report.equal, report.table(), wanted.offered,
    )  # fmt: skip
    _remember(record, made_from, pair)
    return pair


def _made_from(wanted: Wanted) -> dict[str, Any]:
    """What a pair depends on. Of the base the path and the sizes count: hashing it takes as long as converting it."""
    weights = sorted(wanted.base.glob("*.safetensors"))
    return {
        "title": wanted.title, "kind": wanted.kind, "folder": str(wanted.folder.absolute()),
        "base": [str(wanted.base.absolute()), *(f"{path.name}:{path.stat().st_size}" for path in weights)],
        "adapter": _digest(wanted.adapter), "commit": commit(), "offered": wanted.offered,
    }  # fmt: skip


def _digest(adapter: Path | None) -> str | None:
    if adapter is None:
        return None
    found = hashlib.sha256()
    for path in sorted(adapter.glob("adapter_*")):
        found.update(path.read_bytes())
    return found.hexdigest()


def _known(record: Path, made_from: dict[str, Any]) -> Pair | None:
    """The remembered pair, if it was made from the same and its files are those that were written."""
    try:
        about = json.loads(record.read_text("utf-8"))
        values: dict[str, Any] = about["pair"]
        pair = Pair(**values | {key: Path(values[key]) for key in _PATHS})
        same = about["made_from"] == made_from and about["stamps"] == _stamps(pair)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return pair if same and pair.card.is_file() else None


_PATHS = ("language", "mmproj", "card")


def _stamps(pair: Pair) -> list[list[int]]:
    return [[path.stat().st_size, path.stat().st_mtime_ns] for path in (pair.language, pair.mmproj)]


def _remember(record: Path, made_from: dict[str, Any], pair: Pair) -> None:
    record.parent.mkdir(parents=True, exist_ok=True)
    about = {"made_from": made_from, "stamps": _stamps(pair), "pair": asdict(pair)}
    part = record.with_name(record.name + ".part")
    part.write_text(json.dumps(about, indent=1, default=str) + "\n", encoding="utf-8")
    os.replace(part, record)
