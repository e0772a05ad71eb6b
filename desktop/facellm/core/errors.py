"""Errors that a user can meet: each says what happened and what to do next."""

from __future__ import annotations


class FaceLLMError(Exception):
    """Base of all errors shown to a user. ``str(error)`` is a full sentence; ``hint`` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self) -> tuple[type[FaceLLMError], tuple[str, str]]:
        return type(self), (str(self), self.hint)


class ModelPartError(FaceLLMError):
    """A file that a model is built from is missing, damaged or something else."""
