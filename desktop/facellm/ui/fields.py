"""What is typed, chosen or ticked in a form, and its captions."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QResizeEvent, QWheelEvent
from PySide6.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLineEdit, QStyledItemDelegate, QVBoxLayout, QWidget

from facellm.ui import icons
from facellm.ui.parts import IconLabel, label
from facellm.ui.theme import GRID, Theme


class Line(QLineEdit):
    """One line of text. A file that is dropped on it goes to the window, which takes it as a file and not as text."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setAcceptDrops(False)


class Choice(QComboBox):
    """One of several lines. The chevron is ours: a style's arrow does not follow the theme."""

    def __init__(self, theme: Theme, name: str) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setItemDelegate(QStyledItemDelegate(self))  # the one that the stylesheet reaches
        self._chevron = IconLabel(theme, "open-down", "secondary", 16)
        self._chevron.setParent(self)
        self._chevron.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._chevron.move(self.width() - 26, (self.height() - 16) // 2)

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()  # the page scrolls; what was chosen stays


class Tick(QCheckBox):
    """A box to tick, drawn as an icon for the same reason."""

    def __init__(self, theme: Theme, text: str) -> None:
        super().__init__(text)
        self.setAccessibleName(text)
        self._theme = theme
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setIconSize(QSize(18, 18))
        theme.changed.connect(self._renew_icon)
        self.toggled.connect(self._renew_icon)
        self._renew_icon()

    def _renew_icon(self) -> None:
        colours = self._theme.colours
        name, colour = ("box-ticked", colours.accent) if self.isChecked() else ("box", colours.secondary)
        self.setIcon(icons.icon(name, colour, 18))


def field(caption: str, line: QWidget, *beside: QWidget) -> QWidget:
    """A caption above what it is of, with the buttons beside."""
    row = QHBoxLayout()
    row.setSpacing(GRID)
    row.addWidget(line, 1)
    for part in beside:
        row.addWidget(part)
    result = QWidget()
    column = QVBoxLayout(result)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(4)
    column.addWidget(label(caption, role="caption"))
    column.addLayout(row)
    return result


def rows(*parts: QWidget) -> QWidget:
    """Fields below each other, to be shown and hidden together."""
    result = QWidget()
    column = QVBoxLayout(result)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(12)
    for part in parts:
        column.addWidget(part)
    return result
