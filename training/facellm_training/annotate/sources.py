"""Labelled faces from the hub, from FairFace's parquet, or from a folder with a table."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facellm.core.errors import FaceLLMError
from facellm_training.annotate.recipe import Source
from facellm_training.data.fairface import AGES, GENDERS, read_fairface
from facellm_training.data.labels import held_out


class SourceError(FaceLLMError):
    """Pictures or labels that cannot be read at all."""


class ValidationRefused(FaceLLMError):
    """Pictures that measuring needs unseen."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One labelled picture as it lies in the source; ``age`` and ``gender`` index FairFace's classes.

    ``skip``: why it cannot be used, for counting ("label missing", "unknown age bin", …), or "".
    """

    file: str
    encoded: bytes
    age: int = -1
    gender: int = -1
    skip: str = ""


def read_source(source: Source, *, spoil_validation: bool = False) -> Iterator[Labelled]:
    """Pictures in file order, one in memory at a time.

    Raises ``ValidationRefused`` for the validation split unless ``spoil_validation``, and ``SourceError``.
    """
    if source.kind != "folder" and source.split == "validation" and not spoil_validation:
        raise ValidationRefused(
            "FairFace's validation split is for measuring: FaceXBench's FairFace questions very probably come from it, "
            "and a model trained on it would be asked what it has seen.",
            "Set source.split to train. If no result of the model will ever be reported: --spoil-validation.",
        )
    if source.kind == "folder":
        return _folder(source)
    rows = _hub(source) if source.kind == "hub" else _parquet(source)
    return (row for row in rows if not (source.leave_held_out and source.split == "train" and held_out(row.file)))


def state_of(source: Source) -> str:
    """What changes when a local source's files do, so that a mended table or picture is read again; "" for the hub.

    Raises ``SourceError``.
    """
    if source.kind == "hub":
        return ""
    root = Path(source.path)
    files = sorted(root.glob("*.parquet"))
    if source.kind == "folder":
        names = {(row[source.columns["file"]] or "").strip() for row in _labels(source)}
        files = [root / source.labels, *(root / name for name in sorted(names) if name)]
    known = []
    for file in files:
        try:
            about = file.stat()
        except (OSError, ValueError):
            continue
        known.append((str(file), about.st_size, about.st_mtime_ns))
    return hashlib.sha256(repr(known).encode()).hexdigest()


def _parquet(source: Source) -> Iterator[Labelled]:
    try:
        for item in read_fairface(Path(source.path), source.split):
            yield _by_index(item.file, item.encoded, item.age, item.gender)
    except FileNotFoundError as error:
        raise SourceError(
            f"There is no {source.split}-*.parquet in {source.path}.", "source.path is FairFace's folder of parquet."
        ) from error
    except (KeyError, TypeError) as error:
        raise SourceError(f"The parquet in {source.path} has no column {error}: it is not FairFace's.") from error
    except (OSError, ValueError) as error:
        raise SourceError(f"The parquet in {source.path} cannot be read: {error}") from error


def _hub(source: Source) -> Iterator[Labelled]:
    from datasets import Image, load_dataset

    try:
        rows = load_dataset(source.path, source.config, split=source.split, streaming=True)
        rows = rows.cast_column("image", Image(decode=False))
        for number, row in enumerate(rows):
            path = row.get("file") or row["image"].get("path") or str(number + 1)
            file = f"{source.split}/{Path(str(path)).stem}.jpg"
            yield _by_index(file, row["image"]["bytes"] or b"", row["age"], row["gender"])
    except (KeyError, AttributeError) as error:
        raise SourceError(f"The data set {source.path} has no column {error}: it is not FairFace's.") from error
    except (OSError, ValueError) as error:  # datasets' own errors and the hub's are of these kinds
        raise SourceError(
            f"The data set {source.path} cannot be read from the hub: {str(error).splitlines()[0]}",
            "Check the connection and source.path, or use the same files locally (source.kind: parquet).",
        ) from error


def _by_index(file: str, encoded: bytes, age: Any, gender: Any) -> Labelled:
    if age is None or gender is None:
        return Labelled(file, encoded, skip="label missing")
    if not (isinstance(age, int) and 0 <= age < len(AGES)):
        return Labelled(file, encoded, skip="unknown age bin")
    if not (isinstance(gender, int) and 0 <= gender < len(GENDERS)):
        return Labelled(file, encoded, skip="unknown gender")
    return Labelled(file, encoded, age, gender)


def _folder(source: Source) -> Iterator[Labelled]:
    root = Path(source.path)
    for row in _labels(source):
        file = row[source.columns["file"]] or ""
        age, gender = row[source.columns["age"]], row[source.columns["gender"]]
        yield _from_row(root, file.strip(), (age or "").strip(), (gender or "").strip())


def _labels(source: Source) -> list[dict[str, str | None]]:
    root = Path(source.path)
    if not root.is_dir():
        raise SourceError(f"The folder {root} does not exist.")
    return _table(root / source.labels, source.columns)


def _table(path: Path, columns: dict[str, str]) -> list[dict[str, str | None]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            there, rows = list(reader.fieldnames or []), list(reader)
    except FileNotFoundError as error:
        raise SourceError(
            f"There is no table of labels {path}.", "It is a CSV with the columns file, age and gender."
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"The table of labels {path} cannot be read: {error}") from error
    missing = [name for key, name in columns.items() if key in ("file", "age", "gender") and name not in there]
    if missing:
        raise SourceError(
            f"The table {path.name} has no column {', '.join(missing)}; it has {', '.join(there) or 'none'}.",
            "Say what the columns are called: source.columns in the recipe.",
        )
    if not rows:
        raise SourceError(f"The table of labels {path} has no rows.")
    return rows


def _from_row(root: Path, file: str, age: str, gender: str) -> Labelled:
    if not file or not age or not gender:
        return Labelled(file, b"", skip="label missing")
    bin_, who = age_class(age), gender_class(gender)
    if bin_ is None:
        return Labelled(file, b"", skip="unknown age bin")
    if who is None:
        return Labelled(file, b"", skip="unknown gender")
    path = (root / file).resolve()
    if not path.is_relative_to(root.resolve()):  # a table must not reach for files elsewhere: they would be sent away
        return Labelled(file, b"", skip="outside of the folder")
    try:
        return Labelled(file, path.read_bytes(), bin_, who)
    except OSError:
        return Labelled(file, b"", skip="picture missing")


def age_class(text: str) -> int | None:
    """Index into ``AGES`` from a bin's name ("20-29", "20–29", "more than 70") or years ("34"); ``None``: neither."""
    text = text.strip().lower().replace("\u2013", "-").replace(" ", "")
    text = {"morethan70": "70+", ">70": "70+", "70-": "70+"}.get(text, text)
    if text in AGES:
        return AGES.index(text)
    if not re.fullmatch(r"\d{1,3}(\.\d+)?", text) or float(text) > 120:
        return None
    years = float(text)
    return max(i for i, name in enumerate(AGES) if years >= float(re.split(r"[-+]", name)[0]))


def gender_class(text: str) -> int | None:
    """Index into ``GENDERS``; ``None`` for anything that is not one of its two classes."""
    short = {"m": "male", "man": "male", "f": "female", "woman": "female", "w": "female"}
    name = short.get(text.strip().lower(), text.strip().lower())
    return GENDERS.index(name) if name in GENDERS else None
