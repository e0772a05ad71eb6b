"""From a temporary file to the real name in one step, so that a half-written file never bears it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def publish(part: Path, file: Path) -> None:
    """Write ``part`` through to the disk and give it the name ``file``.

    Without the first step a power cut may leave the new name on empty blocks.
    """
    with part.open("rb+") as written:
        os.fsync(written.fileno())
    os.replace(part, file)


def file_sha256(path: Path) -> str:
    """sha256 of a file in lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
