"""The asset manifest: what each file is, how it is checked, and where it may come from."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facellm.core.errors import FaceLLMError

CATALOGUE = Path(__file__).with_name("catalogue.toml")

_KINDS = {"bundle": (), "url": (), "hub": ("file",), "wheel": ("member",)}


class ManifestError(FaceLLMError):
    """The manifest is not well-formed: a fault of this program, not of its user."""


@dataclass(frozen=True, slots=True)
class Source:
    """``kind``: bundle, url, hub or wheel; ``place``: path, address, repository or package==version; ``inside``: file in it."""

    kind: str
    place: str
    inside: str = ""
    revision: str = "main"

    def __str__(self) -> str:
        return f"{self.kind} {self.place}" + (f" ({self.inside})" if self.inside else "")


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: ``size`` in bytes, ``sha256`` in lower-case hex."""

    name: str
    title: str
    licence: str
    attribution: str
    file: str
    size: int
    sha256: str
    sources: tuple[Source, ...]


def read_manifest(path: Path = CATALOGUE) -> dict[str, Asset]:
    """All assets by name. Raises ``ManifestError`` naming the asset and the fault."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"{path.name} is not valid TOML: {error}") from error
    return {name: _asset(name, table) for name, table in tables.items()}


def _asset(name: str, table: dict[str, Any]) -> Asset:
    wanted = {"title": str, "licence": str, "attribution": str, "file": str, "size": int, "sha256": str, "sources": list}
    if set(table) != set(wanted):
        raise ManifestError(f"{name}: needs exactly the keys {', '.join(wanted)}")
    for key, kind in wanted.items():
        if not isinstance(table[key], kind):
            raise ManifestError(f"{name}: {key} must be a {kind.__name__}")
    if not re.fullmatch(r"[0-9a-f]{64}", table["sha256"]) or table["size"] <= 0 or "/" in table["file"]:
        raise ManifestError(f"{name}: sha256, size or file is not valid")
    values = {key: table[key] for key in wanted if key != "sources"}
    return Asset(name=name, sources=tuple(_source(name, item) for item in table["sources"]), **values)


def _source(name: str, table: dict[str, str]) -> Source:
    kinds = [kind for kind in _KINDS if kind in table]
    if len(kinds) != 1:
        raise ManifestError(f"{name}: a source is one of {', '.join(_KINDS)}")
    kind = kinds[0]
    allowed = {kind, *_KINDS[kind]} | ({"revision"} if kind == "hub" else set())
    if not set(_KINDS[kind]) <= set(table) <= allowed:
        raise ManifestError(f"{name}: a {kind} source takes {', '.join(sorted(allowed))}")
    inside = table[_KINDS[kind][0]] if _KINDS[kind] else ""
    return Source(kind, table[kind], inside, table.get("revision", "main"))
