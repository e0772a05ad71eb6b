"""Where the picture lies: the invitation while there is none, the picture, a card over it, the frame for a drop."""

from __future__ import annotations

from PySide6.QtCore import QRectF, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QBoxLayout, QFrame, QHBoxLayout, QLabel, QSizePolicy, QStackedLayout, QVBoxLayout, QWidget

from facellm.ui.aloud import say
from facellm.ui.panes.picture import PictureView
from facellm.ui.parts import Button, IconLabel, label
from facellm.ui.theme import GRID, Theme

_DASH = [5.0, 4.0]
_ACROSS, _DOWN = QBoxLayout.Direction.LeftToRight, QBoxLayout.Direction.TopToBottom


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
        column.setContentsMargins(3 * GRID, 3 * GRID, 3 * GRID, 3 * GRID)  # within the dashed frame
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
    """A small card over the lower edge of the picture; its parts go below each other where the picture is narrow."""

    acted = Signal()

    def __init__(self, theme: Theme, parent: QWidget, action: str, other: str) -> None:
        super().__init__(parent)
        self._room = parent
        self.setObjectName("overCard")
        self._text = label()
        self.other = Button(theme, other)
        self.action = Button(theme, action, kind="primary")
        self.action.clicked.connect(self.acted)
        said = QHBoxLayout()
        said.setSpacing(12)
        for part in (IconLabel(theme, "face", "secondary"), self._text):
            said.addWidget(part)
        self._row, self._buttons = QBoxLayout(_ACROSS, self), QBoxLayout(_ACROSS)
        self._row.setContentsMargins(14, 10, 10, 10)
        self._row.setSpacing(12)
        self._buttons.setSpacing(GRID)
        for button in (self.other, self.action):
            self._buttons.addWidget(button)
        self._row.addLayout(said)
        self._row.addLayout(self._buttons)
        self.hide()

    @property
    def text(self) -> str:
        """What is said, also while hidden."""
        return self._text.text()

    def show_text(self, text: str) -> None:
        """Show ``text`` beside the button; read aloud when it appears."""
        self._text.setText(text)
        if self.isHidden():
            say(self, text)
        self.show()
        self.raise_()
        self.place()

    def place(self) -> None:
        """To the middle of the parent's lower edge."""
        for row, buttons in ((_ACROSS, _ACROSS), (_DOWN, _ACROSS), (_DOWN, _DOWN)):
            self._row.setDirection(row)
            self._buttons.setDirection(buttons)
            self._row.invalidate()  # the inner layout does not tell the outer one
            self.adjustSize()
            if self.width() <= self._room.width() - 2 * GRID:
                break
        room = self._room.rect()
        self.move((room.width() - self.width()) // 2, room.height() - self.height() - 3 * GRID)


class OverHint(QLabel):
    """A line over an edge of the picture, through which the mouse goes."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._room, self._on_top = parent, False
        self.setObjectName("overHint")
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.hide()

    def show_text(self, text: str, on_top: bool) -> None:
        """Show ``text``, and have it read aloud where a screen reader listens; no text hides the line."""
        if (text, on_top) == (self.text(), self._on_top):
            return
        news, self._on_top = text != self.text(), on_top
        self.setText(text)
        self.setVisible(bool(text))
        self.raise_()
        self.place()
        if news:
            say(self, text)

    def place(self) -> None:
        """To the middle of the edge, wrapped where that is narrow."""
        self.setWordWrap(False)
        self.adjustSize()
        widest = self._room.width() - 4 * GRID
        if self.width() > widest:
            self.setWordWrap(True)
            self.resize(widest, self.heightForWidth(widest))
        room = self._room.rect()
        self.move((room.width() - self.width()) // 2, GRID if self._on_top else room.height() - self.height() - GRID)


class Stage(QWidget):
    """Invitation or picture, with card, hint and drop frame over them."""

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
        self.card = OverCard(theme, self, "Ask about the whole picture", "Draw a box")
        self.hint = OverHint(self)
        self._faceless = False
        self.card.other.clicked.connect(self.picture.begin_drawing)
        self.picture.drawing.changed.connect(self._renew_over)

    def show_picture(self) -> None:
        """From the invitation to the picture."""
        self._stack.setCurrentWidget(self.picture)
        # The invitation does not come back, and the room that it needs is the conversation's in a low window.
        self.welcome.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)
        self._frame.hide()

    def show_faceless(self, faceless: bool) -> None:
        """With or without the card that says so and offers what can be done; while a box is drawn it stands back."""
        self._faceless = faceless
        self._renew_over()

    def _renew_over(self) -> None:
        drawing = self.picture.drawing
        low = drawing.rect is not None and self.picture.shown_rect(drawing.rect).center().y() > self.height() / 2 + 1
        self.hint.show_text(drawing.hint, on_top=low)
        if self._faceless and not drawing.active:
            self.card.show_text("No face was found in this photo.")
        else:
            self.card.hide()

    def set_hovering(self, hovering: bool) -> None:
        """A photo is being dragged over the window."""
        self._frame.set_hovering(hovering)
        self._frame.setVisible(hovering or self._stack.currentWidget() is self.welcome)
        self._frame.raise_()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._frame.setGeometry(self.rect())
        self.card.place()
        self.hint.place()
