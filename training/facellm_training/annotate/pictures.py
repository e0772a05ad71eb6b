"""The run's pictures: checked, scaled, without metadata, copied once beside the answers."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image, ImageOps

from facellm_training.annotate.files import make_folder, write_whole
from facellm_training.annotate.sources import Labelled, SourceError
from facellm_training.data.labels import FaceLabels

#: Larger ones are no photo of a face but an attempt to fill the memory; Pillow warns from 89 megapixels on.
_MOST_PIXELS = 80_000_000
_QUALITY = 92


@dataclass(frozen=True, slots=True)
class Picture:
    """``file``: name in the source; ``path``: below the run's folder; ``digest``: sha256 of what is sent, hex."""

    file: str
    path: str
    digest: str
    age: int
    gender: int

    def labels(self) -> FaceLabels:
        """What is known, without ethnicity: it is in no prompt and no text."""
        return FaceLabels(self.file, 0, {"age": self.age, "gender": self.gender})


@dataclass(frozen=True, slots=True)
class Gathered:
    """``skipped``: how many could not be used, by reason."""

    pictures: list[Picture]
    skipped: dict[str, int]


def gather(rows: Iterable[Labelled], out: Path, limit: int | None, max_side: int, wanted: str) -> Gathered:
    """Copy what can be used below ``out/images``; with the same ``wanted`` as before, what was found then.

    ``rows`` are read only where needed. ``wanted``: which pictures, in words that change with them.
    Raises ``SourceError`` when none can be used.
    """
    listed = out / "pictures.json"
    before = _before(listed, wanted)
    if before is not None:
        return before
    make_folder(out / "images")
    pictures: dict[str, Picture] = {}
    skipped: Counter[str] = Counter()
    for row in rows:
        if limit is not None and len(pictures) >= limit:
            break
        encoded = b"" if row.skip else sendable(row.encoded, max_side)
        if row.skip or not encoded:
            skipped[row.skip or "unreadable picture"] += 1
            continue
        digest = hashlib.sha256(encoded).hexdigest()
        if digest in pictures:
            skipped["same picture twice"] += 1
            continue
        kind = "png" if encoded.startswith(b"\x89PNG") else "jpg"
        path = f"images/{digest[:20]}.{kind}"
        if not (out / path).exists():
            write_whole(out / path, encoded)
        pictures[digest] = Picture(row.file, path, digest, row.age, row.gender)
    if not pictures:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in skipped.items())
        raise SourceError(f"No picture can be used ({reasons or 'the source is empty'}).")
    found = {"wanted": wanted, "pictures": [asdict(item) for item in pictures.values()], "skipped": dict(skipped)}
    write_whole(listed, json.dumps(found, indent=0).encode())
    return Gathered(list(pictures.values()), dict(skipped))


def _before(listed: Path, wanted: str) -> Gathered | None:
    """What an earlier run found, unless something else is wanted now or its list or a copy of a picture is gone."""
    try:
        found = json.loads(listed.read_text(encoding="utf-8"))
        if found["wanted"] != wanted:
            return None
        gathered = Gathered([Picture(**row) for row in found["pictures"]], found["skipped"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return gathered if all((listed.parent / one.path).is_file() for one in gathered.pictures) else None


def sendable(encoded: bytes, max_side: int) -> bytes:
    """A JPEG or PNG of at most ``max_side`` px without metadata (a photo's may say where it was taken).

    A picture that already is one passes unchanged. Empty bytes: not a picture.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            if image.width * image.height > _MOST_PIXELS:
                return b""
            image.load()
            small = max(image.size) <= max_side
            plain = not ({"exif", "xmp", "comment", "icc_profile", "photoshop"} & set(image.info))
            if image.format in ("JPEG", "PNG") and image.mode in ("RGB", "L") and small and plain:
                return encoded
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return b""
    upright.thumbnail((max_side, max_side))
    buffer = io.BytesIO()
    upright.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
