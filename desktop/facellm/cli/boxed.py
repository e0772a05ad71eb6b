"""A photo with its faces boxed and lettered, for a file."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from facellm.core.errors import FaceLLMError
from facellm.core.faces import Face, Photo, RgbImage

#: The window's accent colour, and white for letters on it.
ACCENT, ON_ACCENT = (37, 99, 235), (255, 255, 255)


class SaveError(FaceLLMError):
    """A picture could not be written."""


def annotated(photo: Photo, faces: list[Face]) -> RgbImage:
    """A copy of the photo, uint8 RGB ``[H, W, 3]``; lines and letters grow with the picture."""
    picture = Image.fromarray(photo.pixels)
    draw = ImageDraw.Draw(picture)
    line = max(2, round(max(photo.width, photo.height) / 400))
    font = ImageFont.load_default(size=8 * line)
    for face in faces:
        box = face.box
        draw.rectangle((box.x, box.y, box.x + box.w, box.y + box.h), outline=ACCENT, width=line)
        left, top, right, bottom = draw.textbbox((box.x, box.y), face.label, font=font)
        draw.rectangle((left - 2 * line, top - 2 * line, right + 2 * line, bottom + 2 * line), fill=ACCENT)
        draw.text((box.x, box.y), face.label, fill=ON_ACCENT, font=font)
    return np.ascontiguousarray(np.asarray(picture))
