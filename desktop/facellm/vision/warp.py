"""Similarity transforms between a photo and a tile, and cutting a tile without aliasing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facellm.core.faces import RgbImage

#: ``[2, 3]``: maps (x, y, 1) in one picture to (x, y) in another. Continuous coordinates: pixel i covers i to i + 1.
Transform = NDArray[np.float64]

#: When shrinking, a tile is sampled at this many points per side and pixel, then averaged: bilinear sampling alone
#: aliases. When enlarging there is nothing to average, and it would only blur.
OVERSAMPLE = 2
#: Scale from which a tile counts as enlarged; under 1 so that a rounding error cannot blur a picture cut as it is.
ENLARGING = 0.999


def similarity(source: NDArray[np.floating], target: NDArray[np.floating]) -> Transform:
    """The rotation, scale and shift that take ``source`` ``[n, 2]`` nearest to ``target`` (Umeyama 1991)."""
    source_mean, target_mean = source.mean(0), target.mean(0)
    s, t = source - source_mean, target - target_mean
    u, singular, vt = np.linalg.svd(t.T @ s / len(source))
    signs = np.array([1.0, np.sign(np.linalg.det(u @ vt))])
    spread = float((s**2).sum() / len(source))
    scale = float((singular * signs).sum()) / max(spread, 1e-12)
    linear = scale * (u @ np.diag(signs) @ vt)
    return np.column_stack([linear, target_mean - linear @ source_mean])


def upright(centre: tuple[float, float], scale: float, target: tuple[float, float], roll: float = 0.0) -> Transform:
    """Takes ``centre`` to ``target``, scaled, and turns what leans ``roll`` degrees clockwise upright."""
    angle = np.radians(roll)
    linear = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, np.array(target) - linear @ np.array(centre)])


def scale_of(transform: Transform) -> float:
    """Tile pixels per photo pixel."""
    return float(np.sqrt(abs(np.linalg.det(transform[:, :2]))))


def apply(transform: Transform, points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Map ``[n, 2]`` points."""
    return points @ transform[:, :2].T + transform[:, 2]


def invert(transform: Transform) -> Transform:
    """The way back."""
    linear = np.linalg.inv(transform[:, :2])
    return np.column_stack([linear, -linear @ transform[:, 2]])


def cut(pixels: RgbImage, transform: Transform, side: int) -> RgbImage:
    """The square ``[side, side, 3]`` that ``transform`` (photo to tile) sees; beyond the photo its edge is repeated.

    Shrinking averages areas; only the part that is seen is touched, so a large photo costs no more than a small one.
    """
    import cv2

    corners = apply(invert(transform), np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float64))
    height, width = pixels.shape[:2]
    # A margin of a few samples, so that averaging at the part's rim sees the same neighbours as in the whole photo.
    reach = 4 * max(1.0, 1 / scale_of(transform))
    left, right = _span(corners[:, 0].min() - reach, corners[:, 0].max() + reach, width)
    top, bottom = _span(corners[:, 1].min() - reach, corners[:, 1].max() + reach, height)
    part = pixels[top:bottom, left:right]
    transform = _after_shift(transform, left, top)

    oversample = OVERSAMPLE if scale_of(transform) < ENLARGING else 1
    shrink = scale_of(transform) * OVERSAMPLE
    if shrink < 1:
        size = (max(1, round(part.shape[1] * shrink)), max(1, round(part.shape[0] * shrink)))
        ratio = np.array([size[0] / part.shape[1], size[1] / part.shape[0]])
        part = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
        transform = np.column_stack([transform[:, :2] / ratio, transform[:, 2]])
    samples = side * oversample
    # cv2 counts from pixel centres; this file from pixel corners.
    matrix = _after_shift(transform * oversample, 0.5, 0.5)
    matrix[:, 2] -= 0.5
    fine = cv2.warpAffine(part, matrix, (samples, samples), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def _after_shift(transform: Transform, x: float, y: float) -> Transform:
    """The same transform for a photo whose origin moved to (x, y)."""
    moved = transform.copy()
    moved[:, 2] += transform[:, :2] @ np.array([x, y])
    return moved


def _span(low: float, high: float, size: int) -> tuple[int, int]:
    """Whole pixels from ``low`` to ``high`` inside ``size``, at least one."""
    start = int(np.clip(np.floor(low), 0, size - 1))
    return start, int(np.clip(np.ceil(high), start + 1, size))
