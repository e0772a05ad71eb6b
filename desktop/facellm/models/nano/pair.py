"""The nano's two files: their names, the id that joins them, whether they are whole and up to date.

Looked at before every command, hence nothing heavy here: no numpy.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from facellm.core.errors import ModelPartError
from facellm.core.package import ModelPackage
from facellm.models.gguf_header import HeaderError, read_header
from facellm.models.nano.tensor_parts import content_sha256
from facellm.models.publish import file_sha256
from facellm.models.store import AssetStore

NAME = "nano"
LANGUAGE_FILE = "facellm-nano-q8_0.gguf"
MMPROJ_FILE = "facellm-nano-mmproj-f16.gguf"
#: Hashes of both files as they were written: what ``models verify`` compares with.
RECORD = "built.json"
#: What training changed; shipped with the program.
DELTAS = Path(__file__).resolve().parents[2] / "resources" / "nano" / "deltas.safetensors"
LANGUAGE_ASSET, TOWER_ASSET = "smollm2-135m-q4_1", "clip-vit-b16-int8"
#: Side of the picture that the tower takes, in pixels.
TILE = 224
#: Part of the pair's id: raise it when ``gguf_files`` writes something else, so that users' files are built anew.
LAYOUT = "1"


def nano_package(folder: Path) -> ModelPackage:
    """The nano's package in a folder that holds both files."""
    return ModelPackage(
        NAME, folder / LANGUAGE_FILE, folder / MMPROJ_FILE, TILE,
        title="FaceLLM-nano (embedded)", licence="Apache-2.0 AND MIT",
    )  # fmt: skip


def pair_id(store: AssetStore, deltas_sha256: str) -> str:
    """The id that both files carry: it changes with the deltas, either carrier, and how they are written."""
    parts = "".join(store.asset(name).sha256 for name in (LANGUAGE_ASSET, TOWER_ASSET))
    return hashlib.sha256((LAYOUT + deltas_sha256 + parts).encode()).hexdigest()[:16]


def nano_is_current(store: AssetStore, deltas: Path | None = None) -> bool:
    """Whether both files are there and were built from the deltas and carriers at hand, by this version.

    A pair that an installer ships counts as current: it was built with the program around it.
    """
    shipped = nano_package(store.bundle / "models" / NAME)
    if shipped.llm.is_file() and shipped.mmproj.is_file():
        return True
    deltas = deltas or DELTAS
    package = nano_package(store.models / NAME)
    if not (package.llm.is_file() and package.mmproj.is_file() and deltas.is_file()):
        return False
    try:
        wanted = pair_id(store, content_sha256(deltas))
        return all(_pair_of(file) == wanted for file in (package.llm, package.mmproj))
    except (HeaderError, ModelPartError):
        return False


def _pair_of(file: Path) -> object:
    return read_header(file, until="facellm.pair").get("facellm.pair")


def damaged_files(folder: Path) -> list[str] | None:
    """Names of the pair's files whose bytes are not those that were built; ``None`` when that is not recorded."""
    try:
        hashes = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return [
            name for name in (LANGUAGE_FILE, MMPROJ_FILE)
            if not (folder / name).is_file() or file_sha256(folder / name) != hashes[name]
        ]  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None
