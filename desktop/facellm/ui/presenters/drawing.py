"""A box drawn by hand round a face that was missed: what mouse and keys make of it, in pixels of the photo."""

from __future__ import annotations

from PySide6.QtCore import QObject, QPointF, QRectF, Qt, Signal

from facellm.core.faces import FaceBox

#: The mouse must go this far, pixels on the screen, to draw: a hand that clicks is not that unsteady.
_CLICK = 8
#: Sides that a box must have there when drawing was not asked for: less is a slip of the hand on its way elsewhere.
_SLIP = 24
#: A box asked for by a key lies in the middle of the photo and is this part of its shorter side long.
_FIRST_SHARE = 0.5
_ENTER = (Qt.Key.Key_Return, Qt.Key.Key_Enter)
_ARROWS: dict[int, tuple[int, int]] = {
    Qt.Key.Key_Left: (-1, 0),
    Qt.Key.Key_Right: (1, 0),
    Qt.Key.Key_Up: (0, -1),
    Qt.Key.Key_Down: (0, 1),
}
_TO_BEGIN = "Drag a box round the face · Enter begins one · Esc leaves"
_TO_END = "Arrows move · Shift+arrows resize · Enter takes it · Esc leaves"


class BoxDrawing(QObject):
    """Begins by ``begin`` or with a drag. A finished box stays in sight until ``end``, while its face is measured."""

    changed = Signal()
    #: A ``FaceBox`` in photo pixels, inside the photo, its score 1.
    drawn = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._room = QRectF()
        self._pressed: QPointF | None = None
        self._asked_for = False
        self._taken = False
        self.rect: QRectF | None = None

    @property
    def active(self) -> bool:
        """Whether a box is being drawn, or is about to be."""
        return self._asked_for or self.rect is not None

    @property
    def hint(self) -> str:
        """What can be done now; nothing while the mouse is doing it."""
        if not self.active or self._taken or self._pressed is not None:
            return ""
        return _TO_BEGIN if self.rect is None else _TO_END

    def set_room(self, width: float, height: float) -> None:
        """Another photo, or other faces on it: what was being drawn is dropped."""
        self._room = QRectF(0, 0, width, height)
        self.end()

    def begin(self) -> None:
        """Wait for a drag or for keys; without a photo, nothing."""
        if not self._room.isEmpty() and not self.active:
            self._asked_for = True
            self.changed.emit()

    def end(self) -> None:
        """Drop what there is."""
        self._pressed = self.rect = None
        self._asked_for = self._taken = False
        self.changed.emit()

    def press(self, point: QPointF) -> None:
        """The mouse button went down here."""
        if not self._taken:
            self._pressed, self.rect = point, None
            self.changed.emit()

    def drag(self, point: QPointF, pixel: float) -> bool:
        """The mouse is here; false where its button is up. ``pixel``: how long one of the screen is in the photo."""
        if self._pressed is None:
            return False
        box = QRectF(self._pressed, point).normalized().intersected(self._room)
        if self._asked_for:
            meant = (point - self._pressed).manhattanLength() >= _CLICK * pixel and not box.isEmpty()
        else:
            meant = min(box.width(), box.height()) >= _SLIP * pixel
        self.rect = box if meant else None
        self.changed.emit()
        return True

    def release(self) -> None:
        """The mouse button came up."""
        if self._pressed is not None and self.rect is not None:
            self._take()
        elif not self._taken:
            self._pressed = None
            self.changed.emit()

    def key(self, key: int, shift: bool, step: float) -> bool:
        """A key; false where it means nothing here. Arrows move by ``step`` pixels, with ``shift`` they resize."""
        if not self.active or self._taken or (key not in _ENTER and key not in _ARROWS):
            return False
        rect = self._middle() if self.rect is None else self.rect
        if key in _ARROWS:
            dx, dy = (step * way for way in _ARROWS[key])
            self.rect = self._resized(rect, dx, dy, step) if shift else self._moved(rect, dx, dy)
        elif self.rect is None:
            self.rect = rect
        else:
            self._take()
            return True
        self.changed.emit()
        return True

    def _take(self) -> None:
        rect = self.rect
        assert rect is not None
        self._pressed, self._taken = None, True
        self.changed.emit()
        self.drawn.emit(FaceBox(rect.x(), rect.y(), rect.width(), rect.height(), 1.0))

    def _middle(self) -> QRectF:
        side = _FIRST_SHARE * min(self._room.width(), self._room.height())
        rect = QRectF(0, 0, side, side)
        rect.moveCenter(self._room.center())
        return rect

    def _moved(self, rect: QRectF, dx: float, dy: float) -> QRectF:
        x = min(max(rect.x() + dx, 0.0), self._room.width() - rect.width())
        y = min(max(rect.y() + dy, 0.0), self._room.height() - rect.height())
        return QRectF(x, y, rect.width(), rect.height())

    def _resized(self, rect: QRectF, dx: float, dy: float, least: float) -> QRectF:
        """The lower right corner goes, the upper left one stays."""
        width = min(max(rect.width() + dx, least), self._room.width() - rect.x())
        height = min(max(rect.height() + dy, least), self._room.height() - rect.y())
        return QRectF(rect.x(), rect.y(), width, height)
