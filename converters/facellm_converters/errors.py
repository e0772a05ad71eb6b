"""What can be wrong with a checkpoint, an adapter or the place that a model is written to."""

from __future__ import annotations

from facellm.core.errors import FaceLLMError


class ConversionError(FaceLLMError):
    """A conversion that cannot be done; nothing was written."""


class BadCheckpoint(ConversionError):
    """A checkpoint that is incomplete, damaged, or holds values that no model can have."""


class Unsupported(ConversionError):
    """A sound checkpoint of a kind that is not converted here."""
