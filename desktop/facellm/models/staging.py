"""A model on its way into the model folder: made in a hidden folder there, and given its name when it is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from facellm.core.file_names import as_file_name
from facellm.core.package import ModelPackage
from facellm.core.sizes import bytes_text
from facellm.models.filelock import locked
from facellm.models.gguf_header import check_whole
from facellm.models.importing import ImportRefused, Pair
from facellm.models.nano.pair import NAME as NANO
from facellm.models.packages import read_package
from facellm.models.store import AssetStore

#: Told what is being done, bytes done and bytes in all.
Tell = Callable[[str, int, int], None]

STAGED, ASIDE = ".importing-", ".replaced-"
#: Bytes that must be left free beside what is written.
SPARE = 64 << 20
_CHUNK = 4 << 20
_LONGEST_NAME = 100


def model_name(store: AssetStore, wanted: str, *, replace: bool) -> str:
    """The name of the model's folder. Raises ``ImportRefused`` where it cannot be had."""
    name = as_file_name(wanted)
    if not name or len(name) > _LONGEST_NAME:
        raise ImportRefused(
            f"A model cannot be called {wanted[:_LONGEST_NAME]!r}.", f"Use 1 to {_LONGEST_NAME} letters and digits."
        )
    if name.lower() == NANO:
        raise ImportRefused(f"{NANO} is the embedded model's name.", "Choose another name.")
    place = store.models / name
    if place.exists() and not (replace and place.is_dir()):
        raise ImportRefused(f"There is a model called {name} already.", "Choose another name, or have it replaced.")
    return name


def check_elsewhere(pair: Pair, store: AssetStore) -> None:
    """Raise ``ImportRefused`` where the pair lies in the model folder already."""
    folder, models = pair.package.llm.resolve().parent, store.models.resolve()
    if models in folder.parents:
        raise ImportRefused(
            f"It is in the model folder already, as {folder.relative_to(models).as_posix()}.",
            "Nothing needs to be imported: choose it among the models.",
        )


@contextmanager
def staging(store: AssetStore, name: str) -> Iterator[Path]:
    """An empty hidden folder for the model ``name``; gone afterwards, whatever happens, unless it was published.

    One import at a time: what another one has left there belongs to nobody and is removed.
    """
    folder = store.models / f"{STAGED}{name}"
    try:
        store.models.mkdir(parents=True, exist_ok=True)
        with locked(store.root / ".importing.lock"):
            _sweep(store.models)
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise ImportRefused(
            f"{error.filename or store.models} cannot be read or written: {error.strerror or error}.",
            "Nothing was kept of it. Make room, or mend the permissions.",
        ) from error


def copy_pair(pair: Pair, folder: Path, tell: Tell) -> ModelPackage:
    """Copy a pair's files into ``folder`` and see that they are whole.

    Raises ``ImportRefused`` before anything is written where there is no room, ``HeaderError`` for a damaged file.
    """
    for file in pair.files:
        if file.suffix.lower() == ".gguf":
            check_whole(file)
    need, free = pair.bytes, shutil.disk_usage(folder).free
    if need + SPARE > free:
        raise ImportRefused(
            f"{bytes_text(need)} will be copied; {bytes_text(free)} are free in {folder.parent}.", "Make room there."
        )
    done = 0
    for file in pair.files:
        done = _copy(file, folder / file.name, lambda count: tell("copying", count, need), done)
    for file in folder.glob("*.gguf"):
        check_whole(file)
    return read_package(folder)


def publish_package(folder: Path, store: AssetStore, name: str, *, replace: bool) -> ModelPackage:
    """Give the staged folder its name; one that is replaced is deleted when the new one is in place.

    Raises ``ImportRefused``.
    """
    place, aside = store.models / name, store.models / f"{ASIDE}{name}"
    model_name(store, name, replace=replace)  # somebody may have taken it meanwhile
    _sync(folder)
    try:
        if place.exists():
            os.replace(place, aside)
        try:
            os.replace(folder, place)
        except BaseException:
            if aside.exists():
                os.replace(aside, place)
            raise
    except OSError as error:
        raise ImportRefused(
            f"{place} cannot be put in place: {error.strerror or error}.",
            "If that model is in use, end the programs that use it, and import again.",
        ) from error
    _sync(store.models)
    shutil.rmtree(aside, ignore_errors=True)
    return read_package(place)


def _sweep(models: Path) -> None:
    """What a run that was killed has left: its staged folder, or the old model that it had moved aside."""
    for left in models.glob(f"{STAGED}*"):
        shutil.rmtree(left, ignore_errors=True)
    for left in models.glob(f"{ASIDE}*"):
        place = models / left.name.removeprefix(ASIDE)
        if place.exists():
            shutil.rmtree(left, ignore_errors=True)
        else:
            os.replace(left, place)


def _copy(source: Path, target: Path, tell: Callable[[int], None], done: int) -> int:
    """Copy one file through to the disk; ``done`` bytes before it, returned are those after it."""
    size, begun = source.stat().st_size, done
    with source.open("rb") as reader, target.open("xb") as writer:
        tell(done)
        while piece := reader.read(_CHUNK):
            writer.write(piece)
            done += len(piece)
            tell(done)
        writer.flush()
        os.fsync(writer.fileno())
    if done - begun != size:
        raise ImportRefused(f"{source} has changed while it was copied.", "Wait until it is whole, and import again.")
    return done


def _sync(folder: Path) -> None:
    """The names in a folder, too, must outlast a power cut; where the system cannot promise that, it does not."""
    if hasattr(os, "O_DIRECTORY"):
        with suppress(OSError):
            opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
