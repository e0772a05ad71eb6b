"""Importing a model from the window, in a process of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from facellm.core.errors import FaceLLMError
from facellm.models.importing import ImportOrder
from facellm.ui.child import ChildTask, Message


class ImportCancelled(FaceLLMError):
    """The user ended the import."""


class ImportFailed(FaceLLMError):
    """The model could not be imported; nothing of it stays."""


@dataclass(frozen=True, slots=True)
class ImportStep:
    """What is being done, and how many bytes of it; ``total`` is 0 where that is not known."""

    step: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class ImportedModel:
    """The model that is there now. ``notes``: sentences about what is not quite as it might be."""

    name: str
    title: str
    notes: tuple[str, ...]


class Import(ChildTask):
    """One import; ``run`` keeps its thread busy, ``cancel`` comes from another, at any time, and does not wait."""

    module = "facellm.cli.importing"
    what = "import"
    cancelled_error, failed_error = ImportCancelled, ImportFailed
    needs = "Check that enough memory and disk are free, then try again."

    def __init__(self, order: ImportOrder) -> None:
        super().__init__(dataclasses.asdict(order))

    def run(self, emit: Callable[[object], None]) -> ImportedModel:
        """Import, and emit ``ImportStep``; returns when the child is gone.

        Raises ``ImportCancelled``, ``ImportFailed``.
        """
        found: list[ImportedModel] = []

        def hear(message: Message) -> None:
            if "name" in message:
                found.append(ImportedModel(message["name"], message["title"], tuple(message["notes"])))
            else:
                emit(ImportStep(message["step"], message["done"], message["total"]))

        self._run(hear)
        if not found:
            raise ImportFailed("The import ended without a model.", self.needs)
        return found[0]
