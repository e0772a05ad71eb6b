"""Where files are written: beside their last place under another name, and moved there when all of them are whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from facellm.core.sizes import bytes_text
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
        """Of the language part, before it is split; a stem that says the kind already is not told it again."""
        kind = f"-{self.quant.lower()}"
        return f"{self.stem.removesuffix(kind)}{kind}.gguf"

    @property
    def between(self) -> str:
        """What a k-quant is made from, and is removed."""
        return f"{self.stem}-between.gguf"

    @property
    def importance(self) -> str:
        """Of the importance matrix, which is removed too."""
        return f"{self.stem}-importance.gguf"

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
    old = there(out, names)
    if old and not force:
        raise ConversionError(f"{old[0]} exists already.", "Use --force to replace it, or another folder or --name.")


def there(out: Path, names: Names) -> list[Path]:
    """The model's files that ``out`` holds already, shards among them."""
    stem = names.language.removesuffix(".gguf")
    whole = [out / name for name in (names.language, names.mmproj) if (out / name).exists()]
    return whole + sorted(out.glob(f"{stem}-[0-9]*-of-[0-9]*.gguf"))


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
                f"{bytes_text(need)} will be written; {bytes_text(free)} are free in {out}.",
                "Make room there, or choose another folder.",
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


def publish(work: Path, out: Path, names: Names, *, force: bool) -> dict[str, Path]:
    """Move what was written into ``out``; name → its place.

    With ``force`` only, files of the same name are replaced, and shards of another number of shards removed.
    """
    placed: dict[str, Path] = {}
    for old in there(out, names) if force else ():
        if not (work / old.name).exists():
            old.unlink()
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
