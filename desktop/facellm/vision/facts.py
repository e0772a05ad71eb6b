"""What is measured on a face: head pose and expression from the mesh, light and sharpness from the pixels."""

from __future__ import annotations

from math import asin, atan2, degrees

import numpy as np
from numpy.typing import NDArray

from facellm.core.faces import Facts, RgbImage

#: Side in pixels of the crop on which sharpness is measured, so that faces of all sizes compare.
FACTS_TILE = 224


def head_angles(rotation: NDArray[np.float64]) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees from ``[3, 3]`` (canonical face to camera: x right, y up, z to the viewer).

    ``yaw`` > 0 is turned towards the picture's right, ``pitch`` > 0 up, ``roll`` > 0 clockwise as seen.
    """
    ahead, up = rotation[:, 2], rotation[:, 1]
    yaw = degrees(atan2(ahead[0], ahead[2]))
    pitch = degrees(asin(float(np.clip(ahead[1], -1.0, 1.0))))
    roll = degrees(atan2(up[0], up[1]))
    return yaw, pitch, roll


def measure(
    tile: RgbImage,
    width_px: float,
    rotation: NDArray[np.float64] | None = None,
    blendshapes: dict[str, float] | None = None,
) -> Facts:
    """The facts of one face from its ``FACTS_TILE`` crop, its width in the photo, and its mesh where there is one."""
    import cv2

    luma = cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY)
    yaw, pitch, roll = head_angles(rotation) if rotation is not None else (None, None, None)
    shapes = blendshapes or {}
    return Facts(
        width_px=float(width_px),
        brightness=float(luma.mean() / 255),
        contrast=float(luma.std() / 255),
        sharpness=float(cv2.Laplacian(luma, cv2.CV_64F).var()),
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        smile=_mean(shapes, "mouthSmileLeft", "mouthSmileRight"),
        mouth_open=_mean(shapes, "jawOpen"),
        eyes_open=_complement(_mean(shapes, "eyeBlinkLeft", "eyeBlinkRight")),
    )


def _mean(shapes: dict[str, float], *names: str) -> float | None:
    if not all(name in shapes for name in names):
        return None
    return sum(shapes[name] for name in names) / len(names)


def _complement(value: float | None) -> float | None:
    return None if value is None else 1.0 - value
