"""Writes files of a run whole or not at all; a full disk is said and loses nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from facellm.core.errors import FaceLLMError


class DiskFull(FaceLLMError):
    """A disk took no more."""


class CannotWrite(FaceLLMError):
    """The run's folder cannot be written."""


def write_whole(path: Path, content: bytes) -> None:
    """Write beside ``path``, then give it its name. Raises ``DiskFull`` or ``CannotWrite``."""
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise disk_error(error, path) from error


def make_folder(path: Path) -> None:
    """With those above it. Raises ``DiskFull`` or ``CannotWrite``."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, path) from error


def disk_error(error: OSError, path: Path) -> FaceLLMError:
    """What to tell a user whose disk or folder does not take ``path``."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            f"The disk is full: {path.name} could not be written. What was answered so far is kept.",
            "Free some space and give the same command again; it goes on where it was.",
        )
    return CannotWrite(f"Cannot write {path}: {error.strerror or error}.", "Choose another out folder in the recipe.")
