"""One line over the window's content for what went wrong or should be known; never a dialog."""

from __future__ import annotations

from PySide6.QtCore import QTimer, Signal
from PySide6.QtGui import QHideEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout

from facellm.ui.aloud import say
from facellm.ui.parts import Button, IconLabel, Text, restyle
from facellm.ui.theme import GRID, Theme

#: So long a message stays that asks for nothing.
INFO_MS = 6000
_ICONS = {"danger": ("warning", "danger"), "warning": ("warning", "warning"), "info": ("info", "accent")}


class NoticeBar(QFrame):
    """Hidden until something is shown; then it can be dismissed, or, with an action, acted upon.

    "info" goes by itself, unless the mouse or the focus is on it; what went wrong stays until it is mended.
    """

    acted = Signal()

    def __init__(self, theme: Theme, action: str = "", action_icon: str = "", dismissable: bool = False) -> None:
        """``action``: the button's text, in the place of the one that dismisses, or beside it where ``dismissable``:
        then it waits for either.
        """
        super().__init__()
        self.setObjectName("notice")
        self._kind, self._waits = "", dismissable
        self._fade = QTimer(self, singleShot=True, interval=INFO_MS)
        self._fade.timeout.connect(self._end_info)
        self._icon = IconLabel(theme, "info")
        self._text = Text()
        buttons = []
        if action:
            buttons.append(Button(theme, action, action_icon))
            buttons[0].clicked.connect(self.acted)
        if not action or dismissable:
            buttons.append(Button(theme, icon="close", kind="icon", name="Dismiss this message"))
            buttons[-1].clicked.connect(self.hide)
        self.button = buttons[0]
        row = QHBoxLayout(self)
        row.setContentsMargins(2 * GRID, GRID, 2 * GRID, GRID)
        row.setSpacing(12)
        row.addWidget(self._icon)
        row.addWidget(self._text, 1)
        for button in buttons:
            row.addWidget(button)
        self.hide()

    @property
    def text(self) -> str:
        """What is said, also while hidden."""
        return self._text.toPlainText()

    def show_text(self, text: str, hint: str = "", kind: str = "danger") -> None:
        """``kind``: "danger", "warning" or "info"."""
        self._text.show_text(f"{text} {hint}".strip())
        self._icon.show_icon(*_ICONS[kind])
        self._kind = kind
        self.setProperty("kind", kind)
        restyle(self)
        self.show()
        if kind == "info" and not self._waits:
            self._fade.start()
        else:
            self._fade.stop()
        say(self, self.text)

    def mended(self) -> None:
        """The thing has succeeded since: what went wrong need not be read any more."""
        if self._kind == "danger":
            self.hide()

    def hideEvent(self, event: QHideEvent) -> None:
        if not event.spontaneous():  # a window that is minimised still has something to say
            self._fade.stop()
        super().hideEvent(event)

    def _end_info(self) -> None:
        if self.underMouse() or self.button.hasFocus():
            self._fade.start()
        else:
            self.hide()
