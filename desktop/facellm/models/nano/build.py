"""``facellm models build nano``: two carriers and our deltas become the pair that is shipped."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from facellm.core.package import ModelPackage
from facellm.models.nano import clip_onnx
from facellm.models.nano.deltas import DELTAS, read_deltas
from facellm.models.nano.gguf_files import write_language, write_mmproj
from facellm.models.nano.smollm2 import LanguagePart
from facellm.models.store import AssetStore

NAME = "nano"
LANGUAGE_FILE = "facellm-nano-q8_0.gguf"
MMPROJ_FILE = "facellm-nano-mmproj-f16.gguf"
LANGUAGE_ASSET, TOWER_ASSET = "smollm2-135m-q4_1", "clip-vit-b16-int8"

#: Called with what is being done and the share done, 0..1.
BuildProgress = Callable[[str, float], None]


def build_nano(
    store: AssetStore, on_progress: BuildProgress | None = None, *, out: Path | None = None, deltas: Path = DELTAS
) -> ModelPackage:
    """Write the pair below the store (or ``out``); the same bytes every time. Returns the package.

    Raises ``ModelPartError`` for damaged parts, and the store's errors when a carrier cannot be had.
    """
    tell = on_progress or (lambda _stage, _share: None)
    folder = out or store.models / NAME
    folder.mkdir(parents=True, exist_ok=True)
    trained = read_deltas(deltas)
    language = store.ensure(LANGUAGE_ASSET, lambda share: tell("fetching the language model", share))
    tower = store.ensure(TOWER_ASSET, lambda share: tell("fetching the image tower", share))
    pair = pair_id(store, trained.sha256)
    temporary = {name: folder / f".{name}.{os.getpid()}.part" for name in (LANGUAGE_FILE, MMPROJ_FILE)}
    try:
        write_language(
            temporary[LANGUAGE_FILE], LanguagePart(language), trained, pair,
            lambda share: tell("writing the language model", share),
        )  # fmt: skip
        tell("reading the image tower", 0.0)
        write_mmproj(
            temporary[MMPROJ_FILE], clip_onnx.read_clip_tower(tower), trained, pair,
            lambda share: tell("writing the image tower", share),
        )  # fmt: skip
        for name, file in temporary.items():
            os.replace(file, folder / name)
    finally:
        for file in temporary.values():
            file.unlink(missing_ok=True)
    return nano_package(folder)


def nano_package(folder: Path) -> ModelPackage:
    """The nano's package in a folder that holds both files."""
    return ModelPackage(
        NAME, folder / LANGUAGE_FILE, folder / MMPROJ_FILE, clip_onnx.IMAGE_SIZE,
        title="FaceLLM-nano (embedded)", licence="Apache-2.0 AND MIT",
    )  # fmt: skip


def pair_id(store: AssetStore, deltas_sha256: str) -> str:
    """The id that both files carry: it changes with the deltas and with either carrier."""
    parts = "".join(store.asset(name).sha256 for name in (LANGUAGE_ASSET, TOWER_ASSET))
    return hashlib.sha256((deltas_sha256 + parts).encode()).hexdigest()[:16]


def nano_is_current(store: AssetStore, deltas: Path = DELTAS) -> bool:
    """Whether both files are there and were built from the deltas and carriers at hand."""
    from facellm.models.gguf_header import HeaderError, read_header

    files = [store.models / NAME / name for name in (LANGUAGE_FILE, MMPROJ_FILE)]
    if not all(file.is_file() for file in files) or not deltas.is_file():
        return False
    wanted = pair_id(store, hashlib.sha256(deltas.read_bytes()).hexdigest())
    try:
        return all(read_header(file).get("facellm.pair") == wanted for file in files)
    except HeaderError:
        return False
