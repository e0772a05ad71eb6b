"""Line icons from ``resources/icons``: one stroke width, 20 px, drawn in the colour that the theme gives."""

from __future__ import annotations

from functools import lru_cache

from PySide6.QtCore import QByteArray, QRectF, Qt
from PySide6.QtGui import QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

from facellm.ui.theme import ICON_PX, RESOURCES


@lru_cache(maxsize=256)
def _drawing(name: str, colour: str) -> bytes:
    text = (RESOURCES / "icons" / f"{name}.svg").read_text(encoding="utf-8")
    return text.replace("currentColor", colour).encode()


def pixmap(name: str, colour: str, size: int = ICON_PX, ratio: float = 1.0) -> QPixmap:
    """The icon ``name`` in ``colour``, ``size`` logical pixels a side. Raises ``FileNotFoundError``."""
    result = QPixmap(round(size * ratio), round(size * ratio))
    result.setDevicePixelRatio(ratio)
    result.fill(Qt.GlobalColor.transparent)
    painter = QPainter(result)
    QSvgRenderer(QByteArray(_drawing(name, colour))).render(painter, QRectF(0, 0, size, size))
    painter.end()
    return result


def icon(name: str, colour: str, size: int = ICON_PX) -> QIcon:
    """The icon for a button, sharp at 1×, 2× and 3×."""
    result = QIcon()
    for ratio in (1.0, 2.0, 3.0):
        result.addPixmap(pixmap(name, colour, size, ratio))
    return result
