"""The asset manifest: what each file is, how it is checked, and where it may come from."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facellm.core.errors import FaceLLMError

CATALOGUE = Path(__file__).with_name("catalogue.toml")

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: By kind: what the place must look like, further keys that must stand there, and keys that may.
_KINDS: dict[str, tuple[re.Pattern[str], tuple[str, ...], tuple[str, ...]]] = {
    "bundle": (_FILE_NAME, (), ()),
    "url": (re.compile(r"https://[^\s/]+/\S+"), (), ()),
    "hub": (re.compile(r"[\w.-]+/[\w.-]+"), ("file",), ("revision",)),
    "wheel": (re.compile(r"[A-Za-z0-9][\w.-]*==\d[\w.]*"), ("member",), ("bytes",)),
}
_TEXTS = ("title", "licence", "attribution", "file", "sha256")


class ManifestError(FaceLLMError):
    """The manifest is not well-formed: a fault of this program, not of its user."""


@dataclass(frozen=True, slots=True)
class Source:
    """One place an asset may come from.

    ``kind``: bundle, url, hub or wheel; ``place``: file name, address, owner/repository or package==version;
    ``inside``: the file in the repository or wheel; ``carrier``: bytes that arrive when more than the asset does.
    """

    kind: str
    place: str
    inside: str = ""
    revision: str = "main"
    carrier: int = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.place}" + (f" ({self.inside})" if self.inside else "")


@dataclass(frozen=True, slots=True)
class Asset:
    """One file. ``size`` in bytes, ``sha256`` in lower-case hex, ``licence`` an SPDX expression."""

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
    assets = {name: _asset(name, table) for name, table in tables.items()}
    files = [asset.file for asset in assets.values()]
    if len(set(files)) != len(files):
        raise ManifestError(f"{path.name}: two assets have the same file name")
    return assets


def _asset(name: str, table: Any) -> Asset:
    wanted = {**dict.fromkeys(_TEXTS, str), "size": int, "sources": list}
    if not isinstance(table, dict) or set(table) != set(wanted):
        raise ManifestError(f"{name}: needs exactly the keys {', '.join(wanted)}")
    for key, kind in wanted.items():
        if not isinstance(table[key], kind) or not table[key]:
            raise ManifestError(f"{name}: {key} must be a {kind.__name__} and not empty")
    if not re.fullmatch(r"[0-9a-f]{64}", table["sha256"]):
        raise ManifestError(f"{name}: sha256 must be 64 lower-case hex digits")
    if table["size"] <= 0 or not _FILE_NAME.fullmatch(table["file"]):
        raise ManifestError(f"{name}: size must be positive and file a plain file name")
    texts = {key: table[key] for key in _TEXTS}
    return Asset(
        name=name, size=table["size"], sources=tuple(_source(name, item) for item in table["sources"]), **texts
    )


def _source(name: str, table: Any) -> Source:
    kinds = [kind for kind in _KINDS if kind in table] if isinstance(table, dict) else []
    if len(kinds) != 1:
        raise ManifestError(f"{name}: a source is exactly one of {', '.join(_KINDS)}")
    kind = kinds[0]
    pattern, needed, allowed = _KINDS[kind]
    if not {kind, *needed} <= set(table) <= {kind, *needed, *allowed}:
        raise ManifestError(f"{name}: a {kind} source takes {', '.join((kind, *needed))}, and may take {allowed}")
    if not isinstance(table[kind], str) or not pattern.fullmatch(table[kind]):
        raise ManifestError(f"{name}: {table[kind]!r} is no place of kind {kind}")
    return Source(
        kind, table[kind], table[needed[0]] if needed else "", table.get("revision", "main"), table.get("bytes", 0)
    )
