"""What can go wrong in the engine, each with a sentence for the user and what to do next."""

from __future__ import annotations

from facellm.core.errors import FaceLLMError


class EngineError(FaceLLMError):
    """Any failure of the engine."""


class EngineDied(EngineError):
    """The child process ended while it was needed. The next question starts a new one."""


class BadModel(EngineError):
    """A model file is damaged, truncated or of a kind that the runtime cannot run."""


class MissingProjector(EngineError):
    """The mmproj file, the model's eyes, is missing."""


class WrongPair(EngineError):
    """Language GGUF and mmproj GGUF do not belong together."""


class OutOfMemory(EngineError):
    """The model does not fit into memory."""


class RuntimeChanged(EngineError):
    """llama.cpp computes other image embeddings than the model was trained on."""


class QuestionTooLong(EngineError):
    """Picture, question and answer do not fit into the context."""


class BadPicture(EngineError):
    """A picture is not the square of uint8 RGB that the model takes."""


class EngineBusy(EngineError):
    """A thread asks again while it has itself left an earlier answer unfinished."""


class NoGpu(EngineError):
    """A GPU was asked for and this build or machine has none."""


class Stopped(EngineError):
    """Work was ended by the user (inside the child only)."""
