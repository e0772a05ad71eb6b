"""Small changes to a face crop that keep its labels, for the second view of each training picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

#: A detector's crop differs from dlib's by about 3 px of 300 at the corners and 1 % in scale
#: (measured, see vision docs); the ranges below are a few times that.
MAX_SHIFT = 0.04
MAX_ZOOM = 0.08
MAX_ROTATION = 6.0
LIGHT = 0.25


def flipped_view(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Mirror an RGB crop and jitter its framing, light and sharpness. Same shape and type."""
    image = Image.fromarray(pixels[:, ::-1])
    side = image.width
    zoom = 1 + rng.uniform(-MAX_ZOOM, MAX_ZOOM)
    angle = np.deg2rad(rng.uniform(-MAX_ROTATION, MAX_ROTATION))
    shift = rng.uniform(-MAX_SHIFT, MAX_SHIFT, 2) * side
    cos, sin, centre = np.cos(angle) / zoom, np.sin(angle) / zoom, (side - 1) / 2
    offset = centre - np.array([[cos, sin], [-sin, cos]]) @ (centre + shift)
    border = Image.fromarray(np.pad(pixels[:, ::-1], ((40, 40), (40, 40), (0, 0)), mode="edge"))
    # The padded picture stands in for what lies outside the crop, so that no black edge appears.
    image = border.transform(
        (side, side),
        Image.Transform.AFFINE,
        (cos, sin, offset[0] + 40, -sin, cos, offset[1] + 40),
        Image.Resampling.BICUBIC,
    )
    image = ImageEnhance.Brightness(image).enhance(1 + rng.uniform(-LIGHT, LIGHT))
    image = ImageEnhance.Contrast(image).enhance(1 + rng.uniform(-LIGHT, LIGHT))
    image = ImageEnhance.Color(image).enhance(1 + rng.uniform(-LIGHT, LIGHT))
    if rng.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 1.5)))
    return np.asarray(image)
