"""One line over the window's content for what went wrong or should be known; never a dialog."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAccessible, QAccessibleAnnouncementEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout

from facellm.ui.parts import Button, IconLabel, label, restyle
from facellm.ui.theme import GRID, Theme

_ICONS = {"danger": ("warning", "danger"), "warning": ("warning", "warning"), "info": ("info", "accent")}


class NoticeBar(QFrame):
    """Hidden until something is shown; then it can be dismissed, or, with an action, acted upon."""

    acted = Signal()

    def __init__(self, theme: Theme, action: str = "", action_icon: str = "") -> None:
        """``action``: the button's text, in the place of the one that dismisses."""
        super().__init__()
        self.setObjectName("notice")
        self._icon = IconLabel(theme, "info")
        self._text = label(wrap=True)
        self._text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        if action:
            self.button = Button(theme, action, action_icon)
            self.button.clicked.connect(self.acted)
        else:
            self.button = Button(theme, icon="close", kind="icon", name="Dismiss this message")
            self.button.clicked.connect(self.hide)
        row = QHBoxLayout(self)
        row.setContentsMargins(2 * GRID, GRID, 2 * GRID, GRID)
        row.setSpacing(12)
        row.addWidget(self._icon)
        row.addWidget(self._text, 1)
        row.addWidget(self.button)
        self.hide()

    @property
    def text(self) -> str:
        """What is said, also while hidden."""
        return self._text.text()

    def show_text(self, text: str, hint: str = "", kind: str = "danger") -> None:
        """``kind``: "danger", "warning" or "info"."""
        self._text.setText(f"{text} {hint}".strip())
        self._icon.show_icon(*_ICONS[kind])
        self.setProperty("kind", kind)
        restyle(self)
        self.show()
        if QAccessible.isActive():
            QAccessible.updateAccessibility(QAccessibleAnnouncementEvent(self, self.text))
