"""The card on which a model is brought in: the form, then progress, an error or what came of it. Never modal."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import QApplication, QFrame, QHBoxLayout, QProgressBar, QVBoxLayout, QWidget

from facellm.ui import words
from facellm.ui.aloud import say
from facellm.ui.panes.import_form import ImportForm
from facellm.ui.parts import Button, IconLabel, Text, label, named
from facellm.ui.presenters.importing import ImportPhase, ImportState, Looked
from facellm.ui.scrolling import Scroll
from facellm.ui.theme import GRID, Theme

_WIDTH = 600


class ImportPane(Scroll):
    """``start`` has an ``ImportOrder`` and whether it fetches; ``cancel`` ends the import, ``closed`` only the card."""

    look = Signal(str)
    start = Signal(object, bool)
    cancel = Signal()
    use = Signal()
    closed = Signal()

    def __init__(self, theme: Theme, taken: Callable[[str], bool]) -> None:
        """``taken``: whether the list of models has one of this name."""
        super().__init__()
        self._state = ImportState()
        self.setObjectName("thread")
        self.setAccessibleName("Import a model")
        self.form = ImportForm(theme, taken)
        self.form.look.connect(self.look)
        self.form.changed.connect(self._renew)
        self.form.entered.connect(self._enter)
        self._title = label(role="title")
        self.close_button = Button(theme, icon="close", kind="icon", name="Close this card")
        self.close_button.clicked.connect(self.closed)
        self._error = named(QFrame(), "card")
        self._error_text = Text()
        self._progress = QProgressBar(textVisible=False, maximum=1000)
        self._progress.setAccessibleName("Progress of the import")
        self._step = label(role="secondary", wrap=True)
        self._moved = label(role="caption")
        self._notes = Text()
        self.import_button = Button(theme, "Import", "import", "primary")
        self.import_button.clicked.connect(self._start)
        self.use_button = Button(theme, "Use it", "check", "primary", name="Use the imported model")
        self.use_button.clicked.connect(self.use)
        self.cancel_button = Button(theme, "Cancel")
        self.cancel_button.clicked.connect(self._cancel)
        self._arrange(theme)
        self.verticalScrollBar().rangeChanged.connect(self._grown)
        self._renew()

    def sizeHint(self) -> QSize:
        return QSize(320, 120)  # scrolls where there is no room

    def take(self, source: str) -> None:
        """Fill in the source, unless an import is being shown."""
        if source and not self._state.running:
            self.form.source.setText(source)

    def set_focus(self) -> None:
        """The cursor to where one goes on."""
        of_phase = {ImportPhase.RUNNING: self.cancel_button, ImportPhase.DONE: self.use_button}
        part: QWidget = of_phase.get(self._state.phase, self.form.source)
        if self._state.phase is ImportPhase.FAILED and self.form.complete:
            part = self.import_button  # below the error, which so is in sight
        part.setFocus(Qt.FocusReason.ShortcutFocusReason)

    def show_looked(self, looked: Looked) -> None:
        """What the source is, or why it is of no use."""
        self.form.show_looked(looked)

    def renew(self) -> None:
        """The list of models has changed: other names are taken."""
        self.form.renew()

    def show_state(self, state: ImportState) -> None:
        """How far the import is, or how it ended."""
        before, self._state = self._state.phase, state
        if state.phase is ImportPhase.DONE and before is not state.phase:
            self.form.clear()
        self._renew()
        if state.phase is not before:
            say(self, _news(state))
            if self.isVisible():
                self.set_focus()

    def _renew(self) -> None:
        state = self._state
        running, done = state.running, state.phase is ImportPhase.DONE
        self._title.setText(_title(state))
        self.form.setVisible(not done)
        self.form.show_running(running)
        self._error.setVisible(state.phase is ImportPhase.FAILED)
        self._error_text.show_text(f"{state.message} {state.hint}".strip())
        for part in (self._progress, self._step):
            part.setVisible(running)
        self._progress.setMaximum(1000 if state.fraction else 0)  # else it only says that something goes on
        self._progress.setValue(round(1000 * state.fraction))
        step = "Cancelling" if state.cancelling else state.step
        self._step.setText(f"{step[:1].upper()}{step[1:]}…" if step else "")
        self._moved.setText(words.transfer(state.done, state.total, state.bytes_per_s, state.seconds_left))
        self._moved.setVisible(running and bool(self._moved.text()))
        self._notes.setVisible(done)
        self._notes.show_text("\n".join(("It is in the list of models.", *state.notes)))
        self.import_button.setVisible(not running and not done)
        self.import_button.setEnabled(self.form.complete)
        self.use_button.setVisible(done)
        self.cancel_button.setText("Close" if done else "Cancel")
        self.cancel_button.setAccessibleName("Cancel the import" if running else "Close this card")
        if state.cancelling and self.cancel_button.hasFocus():
            self.close_button.setFocus(Qt.FocusReason.OtherFocusReason)  # else Qt gives it to any other part
        self.cancel_button.setEnabled(not state.cancelling)

    def _grown(self) -> None:
        """There is more or less on the card: what has the focus stays in sight."""
        self._show_focused(QApplication.focusWidget())

    def _enter(self) -> None:
        if self.import_button.isEnabled() and self.import_button.isVisible():
            self._start()

    def _start(self) -> None:
        self.start.emit(self.form.order(), self.form.fetches)

    def _cancel(self) -> None:
        (self.cancel if self._state.running else self.closed).emit()

    def _arrange(self, theme: Theme) -> None:
        head = QHBoxLayout()
        head.setSpacing(12)
        head.addWidget(IconLabel(theme, "import", "accent", 24))
        head.addWidget(self._title, 1)
        head.addWidget(self.close_button)
        wrong = QHBoxLayout(self._error)
        wrong.setContentsMargins(12, 10, 12, 10)
        wrong.setSpacing(10)
        wrong.addWidget(IconLabel(theme, "warning", "danger"), 0, Qt.AlignmentFlag.AlignTop)
        wrong.addWidget(self._error_text, 1)
        self._error.setProperty("kind", "danger")
        buttons = QHBoxLayout()
        buttons.setSpacing(GRID)
        buttons.addStretch(1)
        for button in (self.cancel_button, self.import_button, self.use_button):
            buttons.addWidget(button)
        card = named(QFrame(), "overCard")
        card.setMaximumWidth(_WIDTH)
        column = QVBoxLayout(card)
        column.setContentsMargins(3 * GRID, 2 * GRID, 3 * GRID, 2 * GRID)
        column.setSpacing(12)
        column.addLayout(head)
        for part in (self.form, self._error, self._notes, self._step, self._progress, self._moved):
            column.addWidget(part)
        column.addLayout(buttons)
        page = named(QWidget(), "threadBody")
        rows = QVBoxLayout(page)
        rows.setContentsMargins(2 * GRID, 4 * GRID, 2 * GRID, 2 * GRID)  # at the top: it grows while one types
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(card, 1000)
        row.addStretch(1)
        rows.addLayout(row)
        rows.addStretch(1)
        self.setWidget(page)


def _title(state: ImportState) -> str:
    if state.running:
        return f"Importing {state.name}"
    return f"{state.title or state.name} is ready" if state.phase is ImportPhase.DONE else "Import a model"


def _news(state: ImportState) -> str:
    """What a screen reader is told when the phase has changed."""
    wrong = f"{state.message} {state.hint}".strip()
    return wrong if state.phase is ImportPhase.FAILED else _title(state)
