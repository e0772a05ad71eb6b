"""Where the picture lies: the invitation while there is none, the picture, a card over it, the frame for a drop."""

from __future__ import annotations

from PySide6.QtCore import QRectF, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QStackedLayout, QVBoxLayout, QWidget

from facellm.ui.panes.picture import PictureView
from facellm.ui.parts import Button, IconLabel, label
from facellm.ui.theme import GRID, Theme

_DASH = [5.0, 4.0]


class Welcome(QWidget):
    """ "Drop a photo here", with the two other ways."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.open = Button(theme, "Open a photo…", "open", "primary")
        self.open.setToolTip("Ctrl+O")
        self.paste = Button(theme, "Paste", "paste", name="Paste a photo")
        self.paste.setToolTip("Ctrl+V")
        buttons = QHBoxLayout()
        buttons.setSpacing(GRID)
        for button in (self.open, self.paste):
            buttons.addWidget(button)
        column = QVBoxLayout(self)
        column.setSpacing(GRID)
        centre = Qt.AlignmentFlag.AlignHCenter
        column.addStretch(1)
        column.addWidget(IconLabel(theme, "face", "accent", 56), 0, centre)
        column.addSpacing(GRID)
        column.addWidget(label("Drop a photo here", role="hero"), 0, centre)
        hint = label("Every face in it can be asked about. Nothing leaves this computer.", role="secondary", wrap=True)
        hint.setAlignment(centre)
        column.addWidget(hint)
        column.addSpacing(GRID)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addLayout(buttons)
        row.addStretch(1)
        column.addLayout(row)
        column.addStretch(1)


class DropFrame(QWidget):
    """A dashed frame: quiet around the invitation, in the accent colour while a photo hovers over the window."""

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._theme = theme
        self._hovering = False
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        theme.changed.connect(self.update)

    def set_hovering(self, hovering: bool) -> None:
        """A photo is being dragged over the window."""
        self._hovering = hovering
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        colours, painter = self._theme.colours, QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        frame = QRectF(self.rect()).adjusted(17, 17, -17, -17)
        if self._hovering:
            veil = QColor(colours.accent)
            veil.setAlpha(28)
            painter.setBrush(veil)
        pen = QPen(QColor(colours.accent if self._hovering else colours.frame), 2 if self._hovering else 1.5)
        pen.setDashPattern(_DASH)
        painter.setPen(pen)
        painter.drawRoundedRect(frame, 16, 16)
        painter.end()


class OverCard(QFrame):
    """A small card over the lower edge of the picture."""

    acted = Signal()

    def __init__(self, theme: Theme, parent: QWidget, action: str) -> None:
        super().__init__(parent)
        self._room = parent
        self.setObjectName("overCard")
        self._icon = IconLabel(theme, "face", "secondary")
        self._text = label()
        self.action = Button(theme, action, kind="primary")
        self.action.clicked.connect(self.acted)
        row = QHBoxLayout(self)
        row.setContentsMargins(14, 10, 10, 10)
        row.setSpacing(12)
        for part in (self._icon, self._text, self.action):
            row.addWidget(part)
        self.hide()

    @property
    def text(self) -> str:
        """What is said, also while hidden."""
        return self._text.text()

    def show_text(self, text: str) -> None:
        """Show ``text`` beside the button."""
        self._text.setText(text)
        self.show()
        self.raise_()
        self.place()

    def place(self) -> None:
        """To the middle of the parent's lower edge."""
        self.adjustSize()
        room = self._room.rect()
        self.move((room.width() - self.width()) // 2, room.height() - self.height() - 3 * GRID)


class Stage(QWidget):
    """Invitation or picture, with card and drop frame over them."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setObjectName("stage")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.welcome = Welcome(theme)
        self.picture = PictureView(theme)
        self._stack = QStackedLayout(self)
        self._stack.addWidget(self.welcome)
        self._stack.addWidget(self.picture)
        self._frame = DropFrame(theme, self)
        self.card = OverCard(theme, self, "Ask about the whole picture")

    def show_picture(self) -> None:
        """From the invitation to the picture."""
        self._stack.setCurrentWidget(self.picture)
        self._frame.hide()

    def set_hovering(self, hovering: bool) -> None:
        """A photo is being dragged over the window."""
        self._frame.set_hovering(hovering)
        self._frame.setVisible(hovering or self._stack.currentWidget() is self.welcome)
        self._frame.raise_()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._frame.setGeometry(self.rect())
        self.card.place()
