"""Small pieces that panes share: labels with a role, buttons whose icon follows the theme, a wrapping row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QLabel, QPushButton, QSizePolicy, QWidget

from facellm.ui import icons
from facellm.ui.theme import GRID, Theme


def label(text: str = "", role: str = "", wrap: bool = False) -> QLabel:
    """A plain-text label; ``role`` as in ``window.qss`` (title, hero, caption, secondary, danger, key, value)."""
    result = QLabel(text)
    result.setTextFormat(Qt.TextFormat.PlainText)
    result.setProperty("role", role)
    result.setWordWrap(wrap)
    return result


W = TypeVar("W", bound=QWidget)


def named(widget: W, name: str) -> W:
    """``widget``, with the name that ``window.qss`` knows it by."""
    widget.setObjectName(name)
    return widget


def rule(upright: bool = False) -> QFrame:
    """A hairline between two parts."""
    return named(QFrame(), "ruleUpright" if upright else "rule")


def restyle(widget: QWidget) -> None:
    """Have the stylesheet look again at a widget whose property was changed."""
    widget.style().unpolish(widget)
    widget.style().polish(widget)


class Button(QPushButton):
    """A push button with an optional icon in the text's colour. Focus comes by Tab, so its ring shows for keys only."""

    def __init__(self, theme: Theme, text: str = "", icon: str = "", kind: str = "", name: str = "") -> None:
        """``kind``: "", "primary", "flat", "icon" or "fold"; ``name``: the accessible name where there is no text."""
        super().__init__(f" {text}" if text and icon else text)  # the style leaves no gap beside the icon
        self._theme, self._icon, self._kind = theme, icon, kind
        self.setProperty("kind", kind)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setAutoDefault(False)
        self.setAccessibleName(name or text)
        if name and not text:
            self.setToolTip(name)
        theme.changed.connect(self._renew_icon)
        self._renew_icon()

    def set_icon(self, icon: str) -> None:
        """Show another icon."""
        self._icon = icon
        self._renew_icon()

    def _renew_icon(self) -> None:
        if not self._icon:
            return
        colours = self._theme.colours
        plain = colours.secondary if self._kind in ("fold", "icon") else colours.text
        colour = colours.on_accent if self._kind == "primary" else plain
        if not self.isEnabled():
            colour = colours.secondary
        size = 16 if self._kind == "fold" else 20 if self._kind != "icon" else 18
        self.setIcon(icons.icon(self._icon, colour, size))
        self.setIconSize(QSize(size, size))

    def setEnabled(self, enabled: bool) -> None:
        """As in Qt, and the icon follows."""
        super().setEnabled(enabled)
        self._renew_icon()


class IconLabel(QLabel):
    """An icon that is only looked at, in one of the theme's colours."""

    def __init__(self, theme: Theme, icon: str, token: str = "secondary", size: int = 20) -> None:
        super().__init__()
        self._theme, self._icon, self._token, self._size = theme, icon, token, size
        self.setFixedSize(size, size)
        theme.changed.connect(self._renew)
        self._renew()

    def show_icon(self, icon: str, token: str) -> None:
        """Show ``icon`` in the colour ``token`` of ``Colours``."""
        self._icon, self._token = icon, token
        self._renew()

    def _renew(self) -> None:
        colour = getattr(self._theme.colours, self._token)
        self.setPixmap(icons.pixmap(self._icon, colour, self._size, self.devicePixelRatioF()))


class Flow(QWidget):
    """Its widgets left to right, wrapping to further rows. Hidden ones take no room.

    A widget and not a ``QLayout``: layouts written in Python share their items with Qt, which deletes them.
    """

    def __init__(self, widgets: Iterable[QWidget], gap: int = GRID) -> None:
        super().__init__()
        self.widgets, self._gap = tuple(widgets), gap
        for widget in self.widgets:
            widget.setParent(self)
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)

    def heightForWidth(self, width: int) -> int:
        """The height of all rows at this width."""
        return self._place(width, move=False)

    def sizeHint(self) -> QSize:
        return QSize(self.minimumSizeHint().width(), self._place(self.width(), move=False))

    def minimumSizeHint(self) -> QSize:
        widest = max((_size(widget).width() for widget in self._shown()), default=0)
        return QSize(widest, self._place(self.width(), move=False))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._place(self.width(), move=True)

    def event(self, event: QEvent) -> bool:
        """A child that appears, goes or changes its size moves the others."""
        if event.type() == QEvent.Type.LayoutRequest:
            self._place(self.width(), move=True)
            self.updateGeometry()
        return super().event(event)

    def _shown(self) -> list[QWidget]:
        return [widget for widget in self.widgets if not widget.isHidden()]

    def _place(self, width: int, move: bool) -> int:
        x = y = row = 0
        for widget in self._shown():
            size = _size(widget)
            if x > 0 and x + size.width() > width:
                x, y, row = 0, y + row + self._gap, 0
            if move:
                widget.setGeometry(x, y, size.width(), size.height())
            x += size.width() + self._gap
            row = max(row, size.height())
        return y + row


def _size(widget: QWidget) -> QSize:
    """What a widget wants to be, within its own limits."""
    size = widget.sizeHint().expandedTo(widget.minimumSizeHint()).expandedTo(widget.minimumSize())
    return size.boundedTo(widget.maximumSize())
