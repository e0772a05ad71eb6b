"""Errors that are nobody's sentence yet: the system's, memory's, and our own mistakes."""

from __future__ import annotations

import os

from facellm.core.errors import FaceLLMError

#: Set to "1" to see where an error came from.
DEBUG_ENV = "FACELLM_DEBUG"


class Unexpected(FaceLLMError):
    """What no part of the program has foreseen."""


def wants_traceback() -> bool:
    """Whether the user asked to see where errors come from."""
    return os.environ.get(DEBUG_ENV) == "1"


def as_error(error: Exception) -> FaceLLMError:
    """The error as one sentence and a hint; those that have them are given back as they are."""
    if isinstance(error, FaceLLMError):
        return error
    where = f"{DEBUG_ENV}=1 in the environment shows where it happened."
    if isinstance(error, MemoryError):
        return Unexpected("There is not enough memory.", "Close other programs, or make the photo smaller.")
    if isinstance(error, OSError):
        reason = error.strerror or str(error) or type(error).__name__
        about = f"{error.filename}: " if error.filename else ""
        return Unexpected(f"{about}{reason}.", where)
    first = next(iter(str(error).splitlines()), "")
    said = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return Unexpected(f"Something went wrong that should not have: {said}.", f"Please report this. {where}")
