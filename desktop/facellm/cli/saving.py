"""Writes what was found into a folder of the user's, in which nothing is ever overwritten."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from facellm.cli.boxed import SaveError, annotated
from facellm.vision.crop import face_tile

if TYPE_CHECKING:
    from facellm.core.faces import Face, Photo, RgbImage

#: What is written of a photo called ``stem``, as ``_folded`` gives it: the picture with boxes, and faces by letter.
_WRITTEN = re.compile(r"(?P<stem>.*)-(?:faces|[a-z]{1,2})\.png", re.DOTALL)


class Saver:
    """One folder of pictures. A photo whose name is taken, by an earlier run or another photo, gets a number."""

    def __init__(self, folder: Path, tile: int) -> None:
        """``tile``: side of the square that the model takes, in pixels."""
        self._folder = folder
        self._tile = tile
        self._taken: set[str] | None = None

    def save(self, path: Path, photo: Photo, found: list[Face]) -> list[Path]:
        """The annotated picture and one tile a face, PNG. Raises ``SaveError``."""
        pictures = {"faces": annotated(photo, found)}
        pictures |= {face.label: face_tile(photo, face, self._tile) for face in found}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            stem = self._free(path.stem)
            files = {self._folder / f"{stem}-{name}.png": pixels for name, pixels in pictures.items()}
            for file, pixels in files.items():
                _write_new(file, pixels)
        except OSError as error:
            reason = error.strerror or str(error)
            raise SaveError(
                f"Cannot write into {self._folder}: {reason}.", "Give --save a folder that you may write."
            ) from error
        return list(files)

    def _free(self, stem: str) -> str:
        if self._taken is None:
            names = (_WRITTEN.fullmatch(_folded(file.name)) for file in self._folder.iterdir())
            self._taken = {name["stem"] for name in names if name}
        free, count = stem, 1
        while _folded(free) in self._taken:
            count += 1
            free = f"{stem}-{count}"
        self._taken.add(_folded(free))
        return free


def _folded(name: str) -> str:
    """The same for names that Windows or macOS take for one: they look neither at case nor at how an é is composed."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _write_new(file: Path, pixels: RgbImage) -> None:
    """A file that was not there before: all of it, or none. Raises ``OSError``."""
    with file.open("xb") as out:
        try:
            Image.fromarray(pixels).save(out, "PNG")
        except BaseException:
            out.close()
            file.unlink(missing_ok=True)
            raise
