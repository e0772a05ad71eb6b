"""Bringing a model in, without widgets: what was recognised, how far the import is, how it ended."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from PySide6.QtCore import QObject, Signal

from facellm.core.errors import FaceLLMError

if TYPE_CHECKING:
    from facellm.models.importing import Found, ImportOrder
    from facellm.ui.importing import Import, ImportedModel, ImportStep
    from facellm.ui.ports import Backend
    from facellm.ui.tasks import Runner

#: A speed told earlier than this jumps about.
_ESTIMATE_AFTER_S = 1.0


class ImportPhase(Enum):
    """How far an import is. ``FAILED`` and ``DONE`` last until the next one or until they were seen."""

    IDLE = "idle"
    RUNNING = "running"
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class ImportState:
    """``name``: of the model in the list. ``done`` and ``total`` in bytes (``total`` 0: not known), of ``step``.

    ``message`` and ``hint``: of an error. ``fetches``: whether it comes from a hub. ``notes``: what should be known.
    """

    phase: ImportPhase = ImportPhase.IDLE
    name: str = ""
    fetches: bool = False
    step: str = ""
    done: int = 0
    total: int = 0
    bytes_per_s: float = 0.0
    seconds_left: float | None = None
    cancelling: bool = False
    message: str = ""
    hint: str = ""
    title: str = ""
    notes: tuple[str, ...] = ()

    @property
    def running(self) -> bool:
        return self.phase is ImportPhase.RUNNING

    @property
    def fraction(self) -> float:
        """Of the step, 0..1; 0 as long as its size is not known."""
        return min(1.0, self.done / self.total) if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Looked:
    """What is known of a source that was typed: nothing yet, what it is, or why it is of no use."""

    source: str = ""
    found: Found | None = None
    message: str = ""
    hint: str = ""


def hub_server() -> str:
    """The server that a hub id is fetched from: ``HF_ENDPOINT``'s, else the public hub."""
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    return urlsplit(endpoint).netloc or endpoint


class ImportPresenter(QObject):
    """One import at a time, in a child process; it goes on whether its card is open or not."""

    changed = Signal()
    looked_changed = Signal()
    imported = Signal(object)

    def __init__(self, backend: Backend, pool: Runner) -> None:
        super().__init__()
        self._backend, self._pool = backend, pool
        self._looks = 0
        self._import: Import | None = None
        self._since, self._from = 0.0, 0
        self.state = ImportState()
        self.looked = Looked()

    def look(self, source: str) -> None:
        """Recognise what ``source`` names, off the GUI thread; of several, the newest counts."""
        source = source.strip()
        self._looks += 1
        number = self._looks
        if not source:
            self._set_looked(number, Looked())
            return

        def job(_: object) -> Found:
            from facellm.models.importing import recognise

            return recognise(source)

        self._pool.run(
            job,
            lambda found: self._set_looked(number, Looked(source, cast("Found", found))),
            lambda error: self._set_looked(number, Looked(source, None, str(error), error.hint)),
        )

    def start(self, order: ImportOrder, fetches: bool) -> None:
        """Begin, unless one runs."""
        if self.state.running:
            return
        self._since = 0.0
        self._import = self._backend.new_import(order)
        self._set(ImportState(ImportPhase.RUNNING, order.name or order.source, fetches, "Preparing"))
        self._pool.run(self._import.run, self._done, self._failed, self._step)

    def cancel(self) -> None:
        """End it; nothing of it is left in the list of models."""
        if self._import is not None and not self.state.cancelling:
            self._import.cancel()
            self._set(replace(self.state, cancelling=True, seconds_left=None))

    def seen(self) -> None:
        """How it ended was read."""
        if self.state.phase in (ImportPhase.FAILED, ImportPhase.DONE):
            self._set(ImportState())

    def _step(self, event: object) -> None:
        step, now = cast("ImportStep", event), time.monotonic()
        if self._import is None or self._import.cancelled:
            return
        if step.step != self.state.step or not self._since or step.done < self._from:
            self._since, self._from = now, step.done
        elapsed, speed, left = now - self._since, 0.0, None
        if elapsed >= _ESTIMATE_AFTER_S:
            speed = (step.done - self._from) / elapsed
            left = (step.total - step.done) / speed if speed > 0 and step.total else None
        state = replace(self.state, step=step.step, done=step.done, total=step.total)
        self._set(replace(state, bytes_per_s=speed, seconds_left=left))

    def _done(self, result: object) -> None:
        model, self._import = cast("ImportedModel", result), None
        self._set(ImportState(ImportPhase.DONE, model.name, title=model.title, notes=model.notes))
        self.imported.emit(model)

    def _failed(self, error: FaceLLMError) -> None:
        from facellm.ui.importing import ImportCancelled

        self._import = None
        if isinstance(error, ImportCancelled):
            self._set(ImportState())
        else:
            self._set(ImportState(ImportPhase.FAILED, self.state.name, message=str(error), hint=error.hint))

    def _set(self, state: ImportState) -> None:
        self.state = state
        self.changed.emit()

    def _set_looked(self, number: int, looked: Looked) -> None:
        if number == self._looks:
            self.looked = looked
            self.looked_changed.emit()
