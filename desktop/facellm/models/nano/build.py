"""``facellm models build nano``: two carriers and our deltas become the pair that is shipped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from facellm.core.package import ModelPackage
from facellm.models.filelock import locked
from facellm.models.nano import clip_onnx
from facellm.models.nano.deltas import Deltas, read_deltas
from facellm.models.nano.gguf_files import write_language, write_mmproj
from facellm.models.nano.pair import (
    DELTAS,
    LANGUAGE_ASSET,
    LANGUAGE_FILE,
    MMPROJ_FILE,
    NAME,
    RECORD,
    TOWER_ASSET,
    nano_is_current,
    nano_package,
    pair_id,
)
from facellm.models.nano.smollm2 import LanguagePart
from facellm.models.publish import file_sha256, publish
from facellm.models.store import HOME_ENV, AssetStore, StoreUnwritable

#: Bytes of both files together, and some room.
SPACE = 320 << 20

#: Called with what is being done and the share of the whole that is done, 0..1, never falling.
BuildProgress = Callable[[str, float], None]

#: What is done, and how much of the time it takes (2 cores: 14 s to write, a minute to fetch on a 20 Mbit line).
_FETCH = (("fetching the language model", 30.0), ("fetching the image tower", 30.0))
_WRITE = (("writing the language model", 8.0), ("reading the image tower", 3.0), ("writing the image tower", 3.0))


def build_nano(
    store: AssetStore, on_progress: BuildProgress | None = None, *, out: Path | None = None, deltas: Path | None = None
) -> ModelPackage:
    """Write the pair below the store (or into ``out``); the same bytes every time. Returns the package.

    Raises ``ModelPartError`` for missing or damaged parts, the store's errors when a carrier cannot be had.
    """
    folder = out or store.models / NAME
    trained = read_deltas(deltas or DELTAS)
    steps = _Steps(store, on_progress)
    language = store.ensure(LANGUAGE_ASSET, steps.next(_FETCH[0][0]))
    tower = store.ensure(TOWER_ASSET, steps.next(_FETCH[1][0]))
    was_current = out is not None or nano_is_current(store, deltas)
    try:
        with locked(folder / ".build.lock"):
            if not was_current and nano_is_current(store, deltas):
                return nano_package(folder)  # another process has built it while this one waited, and may be using it
            with _temporary(folder) as (language_part, mmproj_part):
                _write(language, tower, trained, pair_id(store, trained.sha256), language_part, mmproj_part, steps)
                _publish(folder, language_part, mmproj_part)
    except PermissionError as error:
        raise StoreUnwritable(
            f"The model in {folder} cannot be replaced: {error.strerror or error}.",
            f"Close FaceLLM's other windows, which may be using it; or mend the folder's permissions, or set "
            f"{HOME_ENV} to another folder.",
        ) from error
    except OSError as error:
        raise StoreUnwritable(
            f"The model cannot be written to {folder}: {error.strerror or error}.",
            f"Free {SPACE >> 20} MB, mend the folder's permissions, or set {HOME_ENV} to another folder.",
        ) from error
    return nano_package(folder)


def _write(
    language: Path, tower: Path, trained: Deltas, pair: str, language_part: Path, mmproj_part: Path, steps: _Steps
) -> None:
    write_language(language_part, LanguagePart(language), trained, pair, steps.next(_WRITE[0][0]))
    steps.next(_WRITE[1][0])(0.0)
    weights = clip_onnx.read_clip_tower(tower)
    write_mmproj(mmproj_part, weights, trained, pair, steps.next(_WRITE[2][0]))


@contextmanager
def _temporary(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Names to write under. Called with the folder's lock held, so that what an ended build left may go."""
    for stale in folder.glob(".*.part"):
        stale.unlink()
    if shutil.disk_usage(folder).free < SPACE:
        raise OSError(f"less than {SPACE >> 20} MB are free")
    parts = folder / f".{LANGUAGE_FILE}.part", folder / f".{MMPROJ_FILE}.part"
    try:
        yield parts
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def _publish(folder: Path, language_part: Path, mmproj_part: Path) -> None:
    """Both files and their record under their real names.

    Ended in between, the pair's ids differ: the engine refuses such a pair, and it counts as not built.
    """
    files = {LANGUAGE_FILE: language_part, MMPROJ_FILE: mmproj_part}
    hashes = {name: file_sha256(part) for name, part in files.items()}
    for name, part in files.items():
        # Refused on Windows while a process has the old file loaded: then nothing is changed, the record neither.
        publish(
            part, folder / name
        )  # on Windows refused while a process has the old one loaded: nothing is changed then
        (folder / RECORD).unlink(missing_ok=True)
    part = folder / f".{RECORD}.part"
    part.write_text(json.dumps(hashes, indent=1) + "\n", encoding="utf-8")
    publish(part, folder / RECORD)


class _Steps:
    """Turns each step's own progress into the share of the whole."""

    def __init__(self, store: AssetStore, on_progress: BuildProgress | None) -> None:
        self._tell = on_progress or (lambda _stage, _share: None)
        absent = [not store.file(name).is_file() for name in (LANGUAGE_ASSET, TOWER_ASSET)]
        weights = {stage: weight * absent[number] for number, (stage, weight) in enumerate(_FETCH)} | dict(_WRITE)
        self._total, self._weights = sum(weights.values()), weights
        self._done = 0.0
        self._weight = 0.0

    def next(self, stage: str) -> Callable[[float], None]:
        """Begin a step; the function takes the share of it that is done."""
        self._done += self._weight
        self._weight = self._weights[stage]
        before, weight = self._done, self._weight
        return lambda share: self._tell(stage, min(1.0, (before + share * weight) / self._total))
