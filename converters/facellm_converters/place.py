"""Where files are written: beside their last place under another name, and moved there when all of them are whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from facellm_converters.errors import ConversionError

#: Bytes that must be left free beside what is written.
SPARE = 64 << 20
_WORK = ".facellm-converting"


@dataclass(frozen=True, slots=True)
class Names:
    """Names of the files of one model; ``stem``: the model's."""

    stem: str
    quant: str
    mmproj_quant: str

    @property
    def language(self) -> str:
        """Of the language part, before it is split."""
        return f"{self.stem}-{self.quant.lower()}.gguf"

    @property
    def between(self) -> str:
        """What a k-quant is made from, and is removed."""
        return f"{self.stem}-between.gguf"

    @property
    def mmproj(self) -> str:
        """Of the image part."""
        return f"{self.stem}-mmproj-{self.mmproj_quant.lower()}.gguf"

    @property
    def adapter(self) -> str:
        """Of an adapter that is kept apart."""
        return f"{self.stem}-adapter.gguf"

    @property
    def card(self) -> str:
        """Of the model card."""
        return f"{self.stem}.md"


def check_absent(out: Path, names: Names, *, force: bool) -> None:
    """Raise ``ConversionError`` where ``out`` is no folder, or holds such files and ``force`` is not set."""
    if out.exists() and not out.is_dir():
        raise ConversionError(f"{out} is a file.", "Give a folder behind --out.")
    stem = names.language.removesuffix(".gguf")
    there = [out / name for name in (names.language, names.mmproj) if (out / name).exists()]
    there += sorted(out.glob(f"{stem}-0*-of-0*.gguf"))
    if there and not force:
        raise ConversionError(f"{there[0]} exists already.", "Use --force to replace it, or another folder or --name.")


@contextmanager
def workplace(out: Path, names: Names, need: int) -> Iterator[Path]:
    """A folder within ``out`` that is gone afterwards, whatever happens. Raises ``ConversionError`` without room.

    ``need``: bytes that will be written.
    """
    made = not out.exists()
    work = out / f"{_WORK}-{names.stem}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
        free = shutil.disk_usage(out).free
        if need + SPARE > free:
            raise ConversionError(
                f"{_size(need)} will be written; {_size(free)} are free in {out}.",
                "Make room, or choose another --out.",
            )
        work.mkdir()
        yield work
    except OSError as error:
        raise ConversionError(
            f"{error.filename or out} cannot be written: {error.strerror or error}.", "Nothing was kept of it."
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if made and out.is_dir() and not any(out.iterdir()):
            out.rmdir()


def publish(work: Path, out: Path, *, force: bool) -> dict[str, Path]:
    """Move what was written into ``out``; name → its place. Files of the same name are replaced with ``force`` only."""
    placed: dict[str, Path] = {}
    for file in sorted(work.iterdir()):
        place = out / file.name
        if place.exists() and not force and file.suffix == ".gguf":
            raise ConversionError(f"{place} has appeared meanwhile.", "Use --force to replace it.")
        os.replace(file, place)
        placed[file.name] = place
    if hasattr(os, "O_DIRECTORY"):  # the names, too, must outlast a power cut
        folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)
    return placed


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
