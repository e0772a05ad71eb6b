"""The models on this computer as the window sees them: which there are, and which one answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from PySide6.QtCore import QObject, Signal

from facellm.ui.tasks import ignore

if TYPE_CHECKING:
    from facellm.ui.ports import Backend, ModelEntry
    from facellm.ui.tasks import Runner


class ModelsPresenter(QObject):
    """``chosen`` is what the user took: to be remembered for the next start."""

    changed = Signal()
    chosen = Signal(str)

    def __init__(self, backend: Backend, pool: Runner) -> None:
        super().__init__()
        self._backend, self._pool = backend, pool
        self.entries: tuple[ModelEntry, ...] = ()

    @property
    def current(self) -> str:
        """The name of the model that answers, or will once it is loaded."""
        return self._backend.model

    def taken(self, name: str) -> bool:
        """Whether an import of this name would take the place of something."""
        return self._backend.taken(name)

    def folder(self) -> Path:
        """Where the user's models lie, one folder each; made where there is none yet.

        Raises ``StoreUnwritable``.
        """
        return self._backend.models_folder()

    def refresh(self) -> None:
        """Read the list again, off the GUI thread."""
        self._pool.run(lambda _: self._backend.models(), self._listed, ignore)  # the list of before stays

    def begin_with(self, name: str) -> None:
        """At the start: the model that was chosen last."""
        if name and name != self.current:
            self._backend.use(name)

    def choose(self, name: str) -> None:
        """From now on this one."""
        self._backend.use(name)
        self.chosen.emit(name)
        self.changed.emit()

    def _listed(self, entries: object) -> None:
        if entries != self.entries:
            self.entries = cast("tuple[ModelEntry, ...]", entries)
            self.changed.emit()
