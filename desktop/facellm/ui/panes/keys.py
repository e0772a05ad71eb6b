"""The keys, on one card that goes away with any click or Esc."""

from __future__ import annotations

from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QFrame, QGridLayout, QStyle, QStyleOption, QWidget

from facellm.ui.panes.models import IMPORT_KEYS
from facellm.ui.parts import label

KEYS = (
    ("Ctrl+O", "open a photo"),
    ("Ctrl+V", "paste a photo"),
    ("A … Z", "choose a face"),
    ("W or 0", "choose the whole picture"),
    ("B or Ctrl+B", "draw a box round a face (B: when none has that letter)"),
    ("Del", "remove the chosen face, if it was drawn"),
    ("← →", "previous, next face"),
    ("Ctrl+PgUp, Ctrl+PgDown", "the same while typing"),
    ("1 … 8", "ask a preset question"),
    ("Alt+1 … Alt+8", "the same while typing"),
    ("/  or  Ctrl+L", "go to the question field"),
    ("Enter", "ask"),
    ("Shift+Enter", "new line in the question"),
    ("Esc", "drop a box; stop the answer; leave the question field"),
    ("Ctrl+I", "what the model received"),
    (IMPORT_KEYS, "import a model"),
    ("F1", "this card"),
    ("Ctrl+Q", "quit"),
)


class KeysCard(QFrame):
    """A popup; made when asked for, gone when closed."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Popup)
        self.setObjectName("keysCard")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setAttribute(Qt.WidgetAttribute.WA_TranslucentBackground)  # for the round corners
        self.setAccessibleName("Keyboard shortcuts")
        grid = QGridLayout(self)
        grid.setContentsMargins(24, 20, 24, 20)
        grid.setHorizontalSpacing(24)
        grid.setVerticalSpacing(8)
        grid.addWidget(label("Keyboard shortcuts", role="title"), 0, 0, 1, 2)
        for row, (keys, what) in enumerate(KEYS, start=1):
            grid.addWidget(label(keys, role="key"), row, 0, Qt.AlignmentFlag.AlignLeft)
            grid.addWidget(label(what, role="secondary"), row, 1)

    def show_over(self, window: QWidget) -> None:
        """In the middle of ``window``, as far as the screen lets it."""
        self.adjustSize()
        place, screen = self.geometry(), window.screen().availableGeometry()
        place.moveCenter(window.geometry().center())
        self.setGeometry(_within(place, screen))
        self.show()

    def paintEvent(self, event: QPaintEvent) -> None:
        # For a translucent window Qt leaves out the stylesheet's background.
        option, painter = QStyleOption(), QPainter(self)
        option.initFrom(self)
        self.style().drawPrimitive(QStyle.PrimitiveElement.PE_Widget, option, painter, self)
        painter.end()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self.close()


def _within(rect: QRect, bounds: QRect) -> QRect:
    """``rect``, moved into ``bounds``; with its upper left corner there if it is larger."""
    result = QRect(rect)
    result.moveRight(min(rect.right(), bounds.right()))
    result.moveBottom(min(rect.bottom(), bounds.bottom()))
    result.moveLeft(max(result.left(), bounds.left()))
    result.moveTop(max(result.top(), bounds.top()))
    return result
