"""Pixels between numpy and Qt: arrays shown without a copy, clipboards turned into files in memory."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QBuffer, QByteArray, QIODevice, QMimeData, QRectF, Qt
from PySide6.QtGui import QImage, QImageWriter

from facellm.core.faces import FaceBox, RgbImage

#: Longest side of the copy that is shown: sharp on a 4K screen, 20 ms to scale again when the window changes.
SHOWN_SIDE = 3072
#: A face's picture in the filmstrip shows this much around its box, as a share of the box.
_AROUND = 0.2
#: Of 0..100; zlib's level 1.
_FAST = 10


class HeldImage(QImage):
    """A ``QImage`` over the memory of an RGB array, which it keeps alive."""

    def __init__(self, pixels: RgbImage) -> None:
        """``pixels``: uint8 ``[height, width, 3]``."""
        self._pixels = np.ascontiguousarray(pixels)
        height, width = self._pixels.shape[:2]
        super().__init__(self._pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888)


def shown_image(pixels: RgbImage) -> QImage:
    """What the picture pane draws: at most ``SHOWN_SIDE`` long, in the format that Qt draws fastest.

    For worker threads. Scaled by OpenCV, because Qt would hold Python's lock meanwhile: the window stood still for
    0.8 s when a photo of 24 megapixels was opened.
    """
    height, width = pixels.shape[:2]
    share = SHOWN_SIDE / max(height, width)
    if share < 1:
        import cv2

        size = max(1, round(width * share)), max(1, round(height * share))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    return HeldImage(pixels).convertToFormat(QImage.Format.Format_RGB32)


def face_image(shown: QImage, box: FaceBox, photo_width: int, side: int) -> QImage:
    """A square around ``box`` (pixels of the photo) cut from its shown copy, ``side`` pixels long."""
    scale = shown.width() / photo_width
    half = max(box.w, box.h) * (0.5 + _AROUND) * scale
    x, y = (value * scale for value in box.centre)
    half = max(1.0, min(half, shown.width() / 2, shown.height() / 2))
    x = min(max(x, half), shown.width() - half)
    y = min(max(y, half), shown.height() - half)
    return square(shown.copy(QRectF(x - half, y - half, 2 * half, 2 * half).toRect()), side)


def square(image: QImage, side: int) -> QImage:
    """The middle square of ``image``, ``side`` pixels long."""
    length = min(image.width(), image.height())
    middle = image.copy((image.width() - length) // 2, (image.height() - length) // 2, length, length)
    return middle.scaled(side, side, mode=Qt.TransformationMode.SmoothTransformation)


def png_bytes(image: QImage) -> bytes:
    """``image`` as PNG, barely compressed: it goes through the same door as a file, limits and all."""
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    writer = QImageWriter(buffer, QByteArray(b"png"))
    writer.setCompression(_FAST)
    writer.write(image)
    return bytes(buffer.data().data())


def mime_image(mime: QMimeData) -> QImage | None:
    """The picture in a clipboard or a drop, if there is one."""
    if not mime.hasImage():
        return None
    image = mime.imageData()
    return image if isinstance(image, QImage) and not image.isNull() else None
