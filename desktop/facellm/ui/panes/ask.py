"""Where questions are asked: eight chips, a field that grows with its text, and the buttons that ask and stop."""

from __future__ import annotations

from PySide6.QtCore import QMimeData, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFocusEvent, QKeyEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from facellm.core.ask import MOST_CHARACTERS
from facellm.core.aspects import ASPECTS, Aspect
from facellm.ui.aloud import say
from facellm.ui.parts import Button, label, named, pressed_by_enter, restyle
from facellm.ui.scrolling import Shelf
from facellm.ui.theme import CAPTION_PX, GRID, Theme

_CHIP_HEIGHT, _ROWS = 30, 5


class Chip(QPushButton):
    """A preset question: its key, quietly, and its title."""

    def __init__(self, theme: Theme, number: int, aspect: Aspect) -> None:
        super().__init__(aspect.title)
        self._theme, self._key = theme, str(number)
        self.aspect = aspect
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setAccessibleName(aspect.title)
        self.setAccessibleDescription(aspect.question)
        self.setToolTip(f"{aspect.question}  ({number}, or Alt+{number} while typing)")
        theme.changed.connect(self.update)

    def sizeHint(self) -> QSize:
        width = self.fontMetrics().horizontalAdvance(self.text()) + self._key_width() + 24
        return QSize(width, _CHIP_HEIGHT)

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if not pressed_by_enter(self, event):
            super().keyPressEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        colours, painter = self._theme.colours, QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        body = QRectF(self.rect()).adjusted(1, 1, -1, -1)
        hot = self.isEnabled() and (self.underMouse() or self.isDown())
        painter.setBrush(QColor(colours.hover if hot else colours.quiet))
        painter.setPen(QPen(QColor(colours.accent), 2) if self.hasFocus() else Qt.PenStyle.NoPen)
        painter.drawRoundedRect(body, body.height() / 2, body.height() / 2)
        font = self.font()
        left = body.adjusted(11, 0, 0, 0)
        painter.setPen(QColor(colours.secondary))
        font.setPixelSize(CAPTION_PX)
        painter.setFont(font)
        painter.drawText(left, Qt.AlignmentFlag.AlignVCenter, self._key)
        painter.setPen(QColor(colours.text if self.isEnabled() else colours.secondary))
        painter.setFont(self.font())
        painter.drawText(left.adjusted(self._key_width(), 0, 0, 0), Qt.AlignmentFlag.AlignVCenter, self.text())
        painter.end()

    def _key_width(self) -> int:
        return 14


class AskField(QPlainTextEdit):
    """One line that grows to five. Enter asks, Shift+Enter makes a line; a pasted picture goes to the window."""

    submitted = Signal()
    picture_pasted = Signal()
    focus_changed = Signal(bool)

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("askField")
        self.setAccessibleName("Question")
        self.setTabChangesFocus(True)
        self.setAcceptDrops(False)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.document().setDocumentMargin(0)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.document().documentLayout().documentSizeChanged.connect(self._fit)
        self._fit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        enter = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if enter and not event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self.submitted.emit()
        else:
            super().keyPressEvent(event)

    def insertFromMimeData(self, source: QMimeData) -> None:
        # A copied file has a text, too: its address.
        if any(url.isLocalFile() for url in source.urls()) or not source.hasText():
            self.picture_pasted.emit()
        else:
            self.insertPlainText(source.text())

    def canInsertFromMimeData(self, source: QMimeData) -> bool:
        return source.hasText() or source.hasImage() or source.hasUrls()

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        self.focus_changed.emit(True)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.focus_changed.emit(False)

    def _fit(self) -> None:
        rows = min(max(1, int(self.document().size().height())), _ROWS)
        self.setFixedHeight(rows * self.fontMetrics().lineSpacing() + 4)
        policy = Qt.ScrollBarPolicy
        full = rows == _ROWS
        self.setVerticalScrollBarPolicy(policy.ScrollBarAsNeeded if full else policy.ScrollBarAlwaysOff)


class AskPane(QWidget):
    """Emits the question as it is to be asked, and ``stop``."""

    asked = Signal(str)
    stop = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.chips = tuple(Chip(theme, number, aspect) for number, aspect in enumerate(ASPECTS, start=1))
        self.shelf = Shelf(self.chips)
        self.field = AskField()
        self.button = Button(theme, icon="ask", kind="primary", name="Ask")
        self.stop_button = Button(theme, icon="stop", name="Stop")
        for button, tip in ((self.button, "Ask  (Enter)"), (self.stop_button, "Stop  (Esc)")):
            button.setObjectName("askButton")
            button.setToolTip(tip)
        self.stop_button.hide()
        self._too_long = label(role="danger")
        self._too_long.hide()
        for chip in self.chips:
            chip.clicked.connect(self._chip_clicked)
        self._box = named(QFrame(), "askBox")
        row = QHBoxLayout(self._box)
        row.setContentsMargins(14, 6, 6, 6)
        row.setSpacing(GRID)
        row.addWidget(self.field, 1)
        # Before the other, which thus stays where it is: who asks twice shall not stop by mistake.
        row.addWidget(self.stop_button, 0, Qt.AlignmentFlag.AlignBottom)
        row.addWidget(self.button, 0, Qt.AlignmentFlag.AlignBottom)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2 * GRID, GRID, 2 * GRID, 2 * GRID)
        layout.setSpacing(12)
        layout.addWidget(self.shelf)
        layout.addWidget(self._box)
        layout.addWidget(self._too_long)
        self.field.submitted.connect(self._submit)
        self.field.textChanged.connect(self._text_changed)
        self.field.focus_changed.connect(self._show_focus)
        self.button.clicked.connect(self._submit)
        self.stop_button.clicked.connect(self.stop)
        self.set_ready(False, "")

    def set_ready(self, ready: bool, placeholder: str) -> None:
        """Whether there is something to ask about, and what the empty field says."""
        for chip in self.chips:
            chip.setEnabled(ready)
        self.field.setEnabled(ready)
        self.field.setPlaceholderText(placeholder)
        self.field.viewport().update()  # Qt repaints when a placeholder appears, not when another takes its place
        self._text_changed()

    def set_answering(self, answering: bool) -> None:
        """While an answer runs there is a button that stops it, beside the one that asks the next question."""
        if self.stop_button.hasFocus() and not answering:
            self.field.setFocus(Qt.FocusReason.OtherFocusReason)  # else Qt gives it to any other part
        self.stop_button.setVisible(answering)

    def ask_preset(self, number: int) -> None:
        """Ask the preset 1…8, if asking is possible."""
        chip = self.chips[number - 1]
        if chip.isEnabled():
            self.asked.emit(chip.aspect.question)

    def _chip_clicked(self) -> None:
        chip = self.sender()
        if isinstance(chip, Chip):
            self.asked.emit(chip.aspect.question)

    def _submit(self) -> None:
        text = self.field.toPlainText().strip()
        if 0 < len(text) <= MOST_CHARACTERS:
            self.field.clear()
            self.asked.emit(text)

    def _text_changed(self) -> None:
        """A question that is too long stays in the field to be shortened, and that is said while it is."""
        length = len(self.field.toPlainText().strip())
        too_long = length > MOST_CHARACTERS
        self.button.setEnabled(self.field.isEnabled() and length > 0 and not too_long)
        if too_long:
            self._too_long.setText(f"{length:,} characters; a question can have {MOST_CHARACTERS:,}.")
            if self._too_long.isHidden():
                say(self.field, self._too_long.text())
        self._too_long.setVisible(too_long)

    def _show_focus(self, focused: bool) -> None:
        self._box.setProperty("active", focused)
        restyle(self._box)
