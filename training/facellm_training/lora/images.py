"""Pictures as the one square tile that a model receives, and their cache on disk."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from facellm_training.lora.conversations import DataError
from facellm_training.lora.faults import disk_faults

#: uint8 ``[side, side, 3]``, RGB.
Tile = NDArray[np.uint8]
Tell = Callable[[str], None]


def read_tile(path: Path, side: int) -> Tile:
    """The picture upright, resized (bicubic) to ``side × side`` pixels. Raises ``DataError`` for what is no picture."""
    try:
        with Image.open(path) as picture:
            picture.load()
            upright = ImageOps.exif_transpose(picture).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"The picture {path} cannot be read: {error}.", "Replace it, or take it out.") from error
    return np.asarray(upright.resize((side, side), Image.Resampling.BICUBIC))


class Tiles:
    """Gives tiles by path: from a cache file where ``cached`` made one, else decoded each time."""

    def __init__(self, side: int, place: dict[Path, int] | None = None, file: Path | None = None) -> None:
        self.side, self._place, self._file = side, place or {}, file
        self._open: NDArray[np.uint8] | None = None

    def __call__(self, path: Path) -> Tile:
        if self._file is None or path not in self._place:
            return read_tile(path, self.side)
        if self._open is None:  # in the process that reads: a mapped file is not handed over to a worker
            self._open = np.load(self._file, mmap_mode="r")
        return np.asarray(self._open[self._place[path]])

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_open": None}


def cached(paths: Sequence[Path], side: int, folder: Path, tell: Tell) -> Tiles:
    """Decode every picture once into one file below ``folder`` (side²·3 bytes each); a file that is there already and
    was made of the same pictures is taken. Raises ``DataError``, and ``DiskFull`` before anything is written."""
    unique = sorted(set(paths))
    file = folder / f"tiles-{_key(unique, side)}.npy"
    place = {path: number for number, path in enumerate(unique)}
    if file.is_file():
        return Tiles(side, place, file)
    folder.mkdir(parents=True, exist_ok=True)
    size = len(unique) * side * side * 3
    with disk_faults(folder, "the cache of pictures", need=size, hint="Set data.image_cache: false, or free some."):
        part = file.with_suffix(".part")
        store = np.lib.format.open_memmap(part, "w+", np.uint8, (len(unique), side, side, 3))
        for number, path in enumerate(unique):
            store[number] = read_tile(path, side)
            if (number + 1) % 1000 == 0:
                tell(f"{number + 1} of {len(unique)} pictures decoded")
        store.flush()
        del store
        os.replace(part, file)
    return Tiles(side, place, file)


def _key(paths: Sequence[Path], side: int) -> str:
    known = [(str(path.resolve()), (state := path.stat()).st_size, state.st_mtime_ns) for path in paths]
    return hashlib.sha256(json.dumps([side, known]).encode()).hexdigest()[:16]
