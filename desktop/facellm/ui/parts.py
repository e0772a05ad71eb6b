"""Small pieces that panes share: labels with a role, text to select, buttons with icons, a wrapping row."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtGui import QKeyEvent, QResizeEvent, QWheelEvent
from PySide6.QtWidgets import QAbstractButton, QFrame, QLabel, QPushButton, QSizePolicy, QTextEdit, QWidget

from facellm.ui import icons
from facellm.ui.theme import GRID, Theme

_LONG_WORD = re.compile(r"\S{20}(?=\S)")


class Wrapped(QLabel):
    """A label that wraps, inside a word too where that is long: else the word would push its whole pane wide."""

    def setText(self, text: str) -> None:
        """As in Qt. For text that is only read: where it can be copied, ``Text`` adds nothing to it."""
        super().setText(_LONG_WORD.sub("\\g<0>\N{ZERO WIDTH SPACE}", text))


def label(text: str = "", role: str = "", wrap: bool = False) -> QLabel:
    """A plain-text label; ``role`` as in ``window.qss`` (title, hero, caption, secondary, danger, key, value)."""
    result = Wrapped() if wrap else QLabel()
    result.setTextFormat(Qt.TextFormat.PlainText)
    result.setProperty("role", role)
    result.setWordWrap(wrap)
    result.setText(text)
    return result


class Elided(QLabel):
    """One line of plain text that is shortened where there is no room; all of it is in the tooltip."""

    def __init__(self, role: str, mode: Qt.TextElideMode = Qt.TextElideMode.ElideRight) -> None:
        super().__init__()
        self._full, self._mode = "", mode
        self.setProperty("role", role)
        self.setTextFormat(Qt.TextFormat.PlainText)

    @property
    def full(self) -> str:
        """The text as it was given."""
        return self._full

    def set_full(self, text: str) -> None:
        """Show ``text`` as far as it fits."""
        self._full = text
        self.setToolTip(text)
        self.setAccessibleName(text)
        self.updateGeometry()
        self._renew()

    def fitted(self, text: str, width: int) -> str:
        """``text`` in ``width`` pixels."""
        return self.fontMetrics().elidedText(text, self._mode, width)

    def minimumSizeHint(self) -> QSize:
        return QSize(0, super().minimumSizeHint().height())

    def sizeHint(self) -> QSize:
        return QSize(self.fontMetrics().horizontalAdvance(self._full) + 2, super().sizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._renew()

    def _renew(self) -> None:
        self.setText(self.fitted(self._full, self.width()))


def part_of_page(view: QTextEdit) -> None:
    """Have ``view`` lie in a page as a label does: without frame, bars and margins."""
    view.setFrameShape(QFrame.Shape.NoFrame)
    view.setReadOnly(True)
    view.setAcceptDrops(False)
    view.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    view.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    view.document().setDocumentMargin(0)


class Text(QTextEdit):
    """Plain text to select and copy, as high as it is. Unlike a label's, its words break where they must."""

    def __init__(self, text: str = "") -> None:
        super().__init__()
        part_of_page(self)
        self.setObjectName("plain")
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.show_text(text)

    def show_text(self, text: str) -> None:
        """Show ``text`` to the letter."""
        self.setPlainText(text)
        self.setAccessibleName(text)
        self.fit(self.width())

    def fit(self, width: int) -> None:
        """Take the height of the text at this width."""
        self.document().setTextWidth(width)
        self.setFixedHeight(round(self.document().size().height() + 0.5))

    def sizeHint(self) -> QSize:
        return QSize(200, self.height())

    def minimumSizeHint(self) -> QSize:
        return QSize(0, self.height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self.fit(event.size().width())

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()  # the page scrolls, not the text in it


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


def pressed_by_enter(button: QAbstractButton, event: QKeyEvent) -> bool:
    """Click ``button`` when ``event`` is Enter: outside dialogs Qt has only Space do so. Whether it was."""
    if event.key() not in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
        return False
    if not event.isAutoRepeat():
        button.click()
    return True


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

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if not pressed_by_enter(self, event):
            super().keyPressEvent(event)

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

    def row_width(self) -> int:
        """The width at which one row is enough."""
        return sum(_size(widget).width() + self._gap for widget in self._shown()) - self._gap

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
