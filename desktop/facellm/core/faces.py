"""A photo, the faces found in it, and what was measured on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

#: uint8 ``[height, width, 3]``, RGB, C-contiguous, EXIF orientation already applied.
RgbImage: TypeAlias = NDArray[np.uint8]

#: The name of the picture as a whole where a face's letter is expected.
WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Photo:
    """A decoded picture. ``name`` is what the user called it (a path, "clipboard", …)."""

    name: str
    pixels: RgbImage
    notes: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])


@dataclass(frozen=True, slots=True)
class FaceBox:
    """A face's upright bounding box in pixels of the photo, and the detector's score in 0..1; 1 if drawn by hand."""

    x: float
    y: float
    w: float
    h: float
    score: float

    @property
    def centre(self) -> tuple[float, float]:
        return self.x + self.w / 2, self.y + self.h / 2

    def iou(self, other: FaceBox) -> float:
        """Intersection over union with ``other``, 0..1."""
        width = min(self.x + self.w, other.x + other.w) - max(self.x, other.x)
        height = min(self.y + self.h, other.y + other.h) - max(self.y, other.y)
        if width <= 0 or height <= 0:
            return 0.0
        shared = width * height
        return shared / (self.w * self.h + other.w * other.h - shared)


@dataclass(frozen=True, slots=True)
class Facts:
    """Measured on the pixels, not answered by a model.

    Angles in degrees: ``yaw`` > 0 turned towards the picture's right, ``pitch`` > 0 up,
    ``roll`` > 0 tilted clockwise as the viewer sees it. ``smile``, ``mouth_open``, ``eyes_open``
    0..1 from blendshapes; ``brightness`` and ``contrast`` 0..1 (mean and standard deviation of
    luma / 255); ``sharpness`` is the variance of the Laplacian of the 224 px crop's luma.
    What could not be measured is ``None``.
    """

    width_px: float
    brightness: float
    contrast: float
    sharpness: float
    yaw: float | None = None
    pitch: float | None = None
    roll: float | None = None
    smile: float | None = None
    mouth_open: float | None = None
    eyes_open: float | None = None


@dataclass(frozen=True, slots=True)
class Face:
    """One face of a photo. ``label`` is "A", "B", … from left to right (then "AA", "AB", …), then those drawn by hand.

    ``points``: ``[6, 2]`` right eye, left eye, nose, mouth, right ear, left ear (the person's
    own right and left), NaN where the detector gives none; ``landmarks``: ``[478, 3]`` MediaPipe
    face mesh in photo pixels (z in the same unit), or ``None``.
    """

    label: str
    box: FaceBox
    facts: Facts
    points: NDArray[np.float32] = field(compare=False, repr=False)
    landmarks: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    blendshapes: dict[str, float] | None = field(default=None, compare=False, repr=False)


def face_label(index: int) -> str:
    """0 → "A", 25 → "Z", 26 → "AA"."""
    label = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        label = chr(ord("A") + letter) + label
    return label


def next_label(taken: Iterable[str]) -> str:
    """The letter after the last of ``taken``: gaps stay, so that faces in the order of their letters remain so."""
    return face_label(max(map(_label_index, taken), default=-1) + 1)


def _label_index(label: str) -> int:
    """``face_label`` backwards."""
    index = 0
    for letter in label:
        index = 26 * index + ord(letter) - ord("A") + 1
    return index - 1
