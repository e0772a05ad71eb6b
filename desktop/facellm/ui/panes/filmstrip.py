"""The filmstrip under the picture: one button a face, and the whole picture."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QFont,
    QImage,
    QKeyEvent,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QPen,
    QPixmap,
)
from PySide6.QtWidgets import (
    QAbstractButton,
    QFrame,
    QHBoxLayout,
    QVBoxLayout,
    QWidget,
)

from facellm.core.faces import WHOLE, Face
from facellm.ui import pixels
from facellm.ui.parts import named, pressed_by_enter
from facellm.ui.scrolling import Sideways
from facellm.ui.theme import CAPTION_PX, GRID, Theme
from facellm.ui.words import face_title

_SIDE, _RING, _LETTER = 56, 2.0, 20


class FaceButton(QAbstractButton):
    """A face's picture with its letter; a ring in the accent colour when chosen, a dot while it is being answered."""

    def __init__(self, theme: Theme, label: str, image: QImage, ratio: float) -> None:
        super().__init__()
        self._theme, self.label = theme, label
        self._pixmap = QPixmap.fromImage(image)
        self._pixmap.setDevicePixelRatio(ratio)
        self._busy = False
        self.setCheckable(True)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        key = "W or 0" if label == WHOLE else label
        self.setAccessibleName(face_title(label))
        self.setToolTip(f"{face_title(label)}  ({key})" if len(label) == 1 or label == WHOLE else face_title(label))
        theme.changed.connect(self.update)

    def set_busy(self, busy: bool) -> None:
        """Show that a question about this face is being answered."""
        self._busy = busy
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(_SIDE + 8, _SIDE + 8)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if not pressed_by_enter(self, event):
            super().keyPressEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        colours = self._theme.colours
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        frame = QRectF(4, 4, _SIDE, _SIDE)
        path = QPainterPath()
        path.addRoundedRect(frame, 8, 8)
        painter.setClipPath(path)
        painter.drawPixmap(frame, self._pixmap, QRectF(self._pixmap.rect()))
        painter.setClipping(False)
        if self.isChecked() or self.underMouse() or self.hasFocus():
            ring = colours.accent if self.isChecked() or self.hasFocus() else colours.secondary
            painter.setPen(QPen(QColor(ring), _RING + self.hasFocus()))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(frame.adjusted(-2, -2, 2, 2), 10, 10)
        self._draw_letter(painter)
        if self._busy:
            painter.setPen(QPen(QColor(colours.window), 2))
            painter.setBrush(QColor(colours.accent))
            painter.drawEllipse(QRectF(self.width() - 15, 3, 12, 12))
        painter.end()

    def _draw_letter(self, painter: QPainter) -> None:
        colours = self._theme.colours
        text = "All" if self.label == WHOLE else self.label
        width = _LETTER + 6 * (len(text) - 1)
        tag = QRectF(self.width() - width - 1, self.height() - _LETTER - 1, width, _LETTER)
        painter.setPen(QPen(QColor(colours.window), 2))
        painter.setBrush(QColor(colours.accent if self.isChecked() else colours.secondary))
        painter.drawRoundedRect(tag, _LETTER / 2, _LETTER / 2)
        font = QFont(self.font())
        font.setPixelSize(CAPTION_PX)
        font.setWeight(QFont.Weight.DemiBold)
        painter.setFont(font)
        painter.setPen(QColor(colours.on_accent if self.isChecked() else colours.window))
        painter.drawText(tag, Qt.AlignmentFlag.AlignCenter, text)


class Filmstrip(QFrame):
    """Buttons from left to right; the chosen one is kept in sight."""

    chosen = Signal(str)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._buttons: list[FaceButton] = []
        self.setObjectName("filmstrip")
        self._body = named(QWidget(), "filmsBody")
        self._row = QHBoxLayout(self._body)
        self._row.setContentsMargins(GRID, GRID, GRID, GRID)
        self._row.setSpacing(GRID)
        self._row.addStretch(1)
        self._scroll = named(Sideways(), "films")
        self._scroll.setWidget(self._body)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(GRID, 0, GRID, 0)
        layout.addWidget(self._scroll)
        self.setFixedHeight(_SIDE + 8 + 2 * GRID + 12)

    @property
    def buttons(self) -> tuple[FaceButton, ...]:
        """From left to right."""
        return tuple(self._buttons)

    def show_faces(self, image: QImage, photo_width: int, faces: tuple[Face, ...]) -> None:
        """One button for each of ``faces`` (in pixels of the photo, ``photo_width`` wide) and one for the picture."""
        for button in self._buttons:
            self._row.removeWidget(button)
            button.setParent(None)
            button.deleteLater()
        ratio = self.devicePixelRatioF()
        side = round(_SIDE * ratio)
        pictures = [(face.label, pixels.face_image(image, face.box, photo_width, side)) for face in faces]
        pictures.append((WHOLE, pixels.square(image, side)))
        self._buttons = [FaceButton(self._theme, label, picture, ratio) for label, picture in pictures]
        for index, button in enumerate(self._buttons):
            button.clicked.connect(self._clicked)
            self._row.insertWidget(index, button)

    def choose(self, label: str | None) -> None:
        """Mark this one, and no other."""
        for button in self._buttons:
            button.setChecked(button.label == label)
            if button.label == label:
                self._scroll.ensureWidgetVisible(button, 2 * GRID, 0)

    def set_busy(self, labels: set[str]) -> None:
        """Mark the faces that are being answered."""
        for button in self._buttons:
            button.set_busy(button.label in labels)

    def _clicked(self) -> None:
        button = self.sender()
        if isinstance(button, FaceButton):
            button.setChecked(True)
            self.chosen.emit(button.label)
