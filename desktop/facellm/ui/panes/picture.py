"""The picture: the photo fitted to the pane, faces boxed and lettered, the chosen one in the accent colour."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QColor,
    QFont,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QResizeEvent,
)
from PySide6.QtWidgets import QWidget

from facellm.core.faces import WHOLE, Face
from facellm.ui import words
from facellm.ui.aloud import say
from facellm.ui.presenters.drawing import BoxDrawing
from facellm.ui.theme import GRID, PHOTO_CHOSEN, PHOTO_HALO, PHOTO_LINE, PHOTO_TAG, PHOTO_TAG_TEXT, Theme

_MARGIN, _LINE, _TAG, _CROSS = 16, 2.0, 22.0, 20.0
#: While the window is being dragged larger the picture is scaled fast; this long after, well.
_SETTLE_MS = 120
#: How much of the photo shows through the inside of a box that is being drawn: alpha 0..255 of the accent over it.
_VEIL = 48


class PictureView(QWidget):
    """Shows one photo. Boxes and clicks are in pixels of the photo, whatever the size on screen.

    A drag beside the faces draws a box, and so does any drag while ``drawing`` is active. What was drawn has a cross
    that takes it back, in sight while the face is chosen or the mouse is on it.
    """

    face_clicked = Signal(str)
    remove_clicked = Signal(str)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._image: QImage | None = None
        self._photo_width = 1
        self._faces: tuple[Face, ...] = ()
        self._drawn: frozenset[str] = frozenset()
        self._about = ""
        self._chosen: str | None = None
        self._hovered: str | None = None
        self._scaled: QPixmap | None = None
        self.drawing = BoxDrawing(self)
        self.drawing.changed.connect(self._drawing_changed)
        self._settle = QTimer(self, singleShot=True, interval=_SETTLE_MS)
        self._settle.timeout.connect(self._scale_well)
        self.setObjectName("stage")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumSize(240, 72)
        self.setAccessibleName("Picture")
        theme.changed.connect(self.update)

    def show_photo(
        self,
        image: QImage,
        photo_width: int,
        faces: tuple[Face, ...],
        name: str,
        drawn: frozenset[str] = frozenset(),
    ) -> None:
        """``image``: the photo or a smaller copy of it; ``faces`` in pixels of the photo, ``photo_width`` wide.

        ``drawn``: letters of those that can be taken back.
        """
        another = image is not self._image
        if another:
            self._scaled = self._chosen = None
        self._image, self._photo_width, self._faces, self._drawn = image, photo_width, faces, drawn
        self._hovered = None
        self.drawing.set_room(photo_width, photo_width * image.height() / image.width())
        count = "no face" if not faces else "1 face" if len(faces) == 1 else f"{len(faces)} faces"
        self._about = f"{name}, {count} found"
        if another:
            say(self, self._about)
        self._describe()
        self.update()

    def choose(self, label: str | None) -> None:
        """Draw this face as the chosen one, and have that read aloud; ``WHOLE`` frames the picture."""
        news, self._chosen = label != self._chosen, label
        self._describe()
        if news and label is not None:
            say(self, self._choice())
        self.update()

    def _choice(self) -> str:
        title = words.face_title(self._chosen)
        by_hand = ", drawn by hand: Delete removes it" if self._chosen in self._drawn else ""
        return f"{title} chosen{by_hand}" if title else ""

    def _describe(self) -> None:
        self.setAccessibleDescription(", ".join(filter(None, (self._about, self._choice()))))

    def begin_drawing(self) -> None:
        """Wait for a box, from the mouse or from keys."""
        self.drawing.begin()
        if self.drawing.active:
            self.setFocus(Qt.FocusReason.OtherFocusReason)

    def picture_rect(self) -> QRectF:
        """Where the photo lies in the pane, logical pixels. Empty without a photo."""
        if self._image is None:
            return QRectF()
        room = QRectF(self.rect()).adjusted(_MARGIN, _MARGIN, -_MARGIN, -_MARGIN)
        width, height = self._image.width(), self._image.height()
        # Small photos are enlarged at most three times: beyond, there are only squares to see.
        scale = min(room.width() / width, room.height() / height, 3.0)
        size = QSize(max(1, round(width * scale)), max(1, round(height * scale)))
        left = round(room.center().x() - size.width() / 2)
        top = round(room.center().y() - size.height() / 2)
        return QRectF(left, top, size.width(), size.height())

    def face_rect(self, face: Face) -> QRectF:
        """A face's box in the pane, logical pixels."""
        return self.shown_rect(QRectF(face.box.x, face.box.y, face.box.w, face.box.h))

    def shown_rect(self, rect: QRectF) -> QRectF:
        """Where a rectangle of the photo lies in the pane, logical pixels."""
        corner, scale = self.picture_rect().topLeft(), self._scale()
        return QRectF(corner + rect.topLeft() * scale, rect.size() * scale)

    def face_at(self, point: QPointF) -> str | None:
        """The letter of the face at a point of the pane; of several, the one whose middle is nearest."""
        hits = [(rect, face) for face in self._faces if self._hit(rect := self.face_rect(face), face.label, point)]
        if not hits:
            return None
        return min(hits, key=lambda hit: (hit[0].center() - point).manhattanLength())[1].label

    def _hit(self, rect: QRectF, label: str, point: QPointF) -> bool:
        on_cross = self._has_cross(label) and self._cross_rect(rect).contains(point)
        return on_cross or rect.contains(point) or self._tag_rect(rect, label).contains(point)

    def _has_cross(self, label: str) -> bool:
        return label in self._drawn and label in (self._chosen, self._hovered) and not self.drawing.active

    def _crossed_at(self, point: QPointF) -> str:
        """The letter of the face whose cross lies at a point of the pane, or nothing."""
        shown = (face for face in self._faces if self._has_cross(face.label))
        return next((face.label for face in shown if self._cross_rect(self.face_rect(face)).contains(point)), "")

    def _scale(self) -> float:
        """Logical pixels of the pane for one of the photo."""
        return self.picture_rect().width() / self._photo_width

    def _photo_point(self, point: QPointF) -> QPointF:
        return (point - self.picture_rect().topLeft()) / self._scale()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() != Qt.MouseButton.LeftButton or self._image is None:
            return
        label = None if self.drawing.active else self.face_at(event.position())
        if crossed := self._crossed_at(event.position()):
            self.remove_clicked.emit(crossed)
        elif label is not None:
            self.face_clicked.emit(label)
        else:
            self.drawing.press(self._photo_point(event.position()))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._image is None or self.drawing.drag(self._photo_point(event.position()), 1 / self._scale()):
            return
        hovered = None if self.drawing.active else self.face_at(event.position())
        crossed = self._crossed_at(event.position())
        self.setToolTip(f"Remove {words.face_title(crossed)}  (Del)" if crossed else "")
        if hovered != self._hovered:
            self._hovered = hovered
            self._renew_cursor()
            self.update()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self.drawing.release()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Those that draw; the others are the window's."""
        shift = event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier
        ours = self.drawing.active and shift in (Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ShiftModifier)
        if not ours or not self.drawing.key(event.key(), bool(shift), GRID / self._scale()):
            super().keyPressEvent(event)

    def _drawing_changed(self) -> None:
        if self.drawing.active:
            self._hovered = None
        self._renew_cursor()
        self.update()

    def _renew_cursor(self) -> None:
        shape = Qt.CursorShape.PointingHandCursor if self._hovered else Qt.CursorShape.ArrowCursor
        self.setCursor(Qt.CursorShape.CrossCursor if self.drawing.active else shape)

    def leaveEvent(self, event: QEvent) -> None:
        self._hovered = None
        self.update()

    def resizeEvent(self, event: QResizeEvent) -> None:
        self._settle.start()
        super().resizeEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(self._theme.colours.stage))
        if self._image is not None:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            area = self.picture_rect()
            self._draw_picture(painter, area)
            if self._chosen == WHOLE:
                self._outline(painter, area, chosen=True)
            for face in sorted(self._faces, key=lambda face: face.label == self._chosen):
                self._draw_face(painter, face)
            if self.drawing.rect is not None:
                self._draw_band(painter, self.shown_rect(self.drawing.rect))
        if self.hasFocus():
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(QColor(self._theme.colours.accent), _LINE))
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(3, 3, -3, -3), 6, 6)
        painter.end()

    def _draw_picture(self, painter: QPainter, area: QRectF) -> None:
        wanted = area.size().toSize() * self.devicePixelRatioF()
        if self._scaled is None:
            self._scale_well()
        elif self._scaled.size() != wanted:
            self._settle.start()
        if self._scaled is not None:
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, False)
            painter.drawPixmap(area, self._scaled, QRectF(self._scaled.rect()))

    def _scale_well(self) -> None:
        """Make the copy that is drawn: scaled once, for this size and this screen."""
        if self._image is None:
            return
        wanted = self.picture_rect().size().toSize() * self.devicePixelRatioF()
        if self._scaled is None or self._scaled.size() != wanted:
            ignore, smooth = Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation
            self._scaled = QPixmap.fromImage(self._image.scaled(wanted, ignore, smooth))
            self.update()

    def _draw_face(self, painter: QPainter, face: Face) -> None:
        chosen, rect = face.label == self._chosen, self.face_rect(face)
        self._outline(painter, rect, chosen, bold=face.label == self._hovered)
        tag = self._tag_rect(rect, face.label)
        painter.setPen(QPen(QColor(PHOTO_LINE), 1.5))
        painter.setBrush(QColor(PHOTO_CHOSEN if chosen else PHOTO_TAG))
        painter.drawRoundedRect(tag, tag.height() / 2, tag.height() / 2)
        font = QFont(self.font())
        font.setPixelSize(12)
        font.setWeight(QFont.Weight.DemiBold)
        painter.setFont(font)
        painter.setPen(QColor(PHOTO_TAG_TEXT))
        painter.drawText(tag, Qt.AlignmentFlag.AlignCenter, face.label)
        if self._has_cross(face.label):
            self._draw_cross(painter, self._cross_rect(rect))

    def _draw_cross(self, painter: QPainter, rect: QRectF) -> None:
        painter.setPen(QPen(QColor(PHOTO_LINE), 1.5))
        painter.setBrush(QColor(PHOTO_TAG))
        painter.drawEllipse(rect)
        arm = rect.adjusted(6.5, 6.5, -6.5, -6.5)
        painter.drawLine(arm.topLeft(), arm.bottomRight())
        painter.drawLine(arm.topRight(), arm.bottomLeft())

    def _draw_band(self, painter: QPainter, rect: QRectF) -> None:
        """The box that is being drawn: as a chosen face, with a veil over what is in it."""
        veil = QColor(PHOTO_CHOSEN)
        veil.setAlpha(_VEIL)
        painter.fillRect(rect, veil)
        self._outline(painter, rect, chosen=True)

    def _outline(self, painter: QPainter, rect: QRectF, chosen: bool, bold: bool = False) -> None:
        """White with a dark halo; chosen, the accent with a white one: seen on any photo."""
        painter.setBrush(Qt.BrushStyle.NoBrush)
        halo, colour = (PHOTO_LINE, PHOTO_CHOSEN) if chosen else (PHOTO_HALO, PHOTO_LINE)
        for line, width in ((halo, _LINE + (3 if chosen else 2)), (colour, _LINE + (chosen or bold))):
            painter.setPen(QPen(QColor(line), width))
            painter.drawRoundedRect(rect, 4, 4)

    def _cross_rect(self, face: QRectF) -> QRectF:
        """On the box's upper right corner, but inside the pane."""
        x = min(max(face.right() - _CROSS / 2, 2), self.width() - _CROSS - 2)
        y = min(max(face.y() - _CROSS / 2, 2), self.height() - _CROSS - 2)
        return QRectF(x, y, _CROSS, _CROSS)

    def _tag_rect(self, face: QRectF, label: str) -> QRectF:
        """On the box's upper left corner, but inside the pane."""
        width = _TAG + 7 * (len(label) - 1)
        x = min(max(face.x() - _TAG / 2, 2), self.width() - width - 2)
        y = min(max(face.y() - _TAG / 2, 2), self.height() - _TAG - 2)
        return QRectF(x, y, width, _TAG)
