"""What is measured on a face: head pose and expression from the mesh, light and sharpness from the pixels."""

from __future__ import annotations

from math import asin, atan2, degrees

import numpy as np
from numpy.typing import NDArray

from facellm.core.faces import Facts, RgbImage

#: From here on a head counts as turned, raised or leaning: in frontal portraits the angles scatter by 3 to 5 degrees.
LEAST_TURN = 10.0

#: Values from which a word is used. Against 3,754 weakly labelled FairFace crops: smile none / any is met in 85 % at
#: 0.15, broad in 86 % at 0.5; the jaw is open in 53 % of what is over 0.2 and speaking or laughing in most of the rest,
#: so less is not said at all; closed eyes have a median of 0.43, lowered ones 0.58, eyes to the camera 0.88.
SMILE, SLIGHT_SMILE = 0.5, 0.15
MOUTH_OPEN = 0.2
EYES_OPEN, EYES_HALF_OPEN = 0.7, 0.45
#: Boundaries of the annotators' "blurred" (median 11), "soft" (27) and "sharp" (86).
SHARP, BLURRED = 47.0, 17.0
#: Width in pixels from which expression is put into words: at 24 px the smile of portraits is off by 0.15 on average.
EXPRESSION_PX = 28.0
#: Exposure, not skin: plain portraits of all skin colours lie between (67 synthetic ones: 1st percentile 0.29, 99th
#: 0.57), the same at 35 % of the light below 0.20, overexposed ones above 0.64.
UNDEREXPOSED, OVEREXPOSED = 0.21, 0.62
#: The flattest tenth of FairFace.
FLAT = 0.11

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


def describe_facts(facts: Facts) -> list[str]:
    """Plain words for what was measured, most telling first: "turned left 18°", "eyes open", "sharp", "212 px".

    Left and right are the viewer's. Movement is named, not feeling; what was not measured is said once.
    """
    expression = _expression_words(facts) if facts.width_px >= EXPRESSION_PX else []
    return [*_pose_words(facts), *expression, *_picture_words(facts), f"{facts.width_px:.0f} px"]


def _pose_words(facts: Facts) -> list[str]:
    if facts.yaw is None or facts.pitch is None or facts.roll is None:
        return ["pose not measurable"]
    turns = (
        (facts.yaw, "turned right", "turned left"),
        (facts.pitch, "head up", "head down"),
        (facts.roll, "leaning right", "leaning left"),
    )
    words = [f"{plus if angle > 0 else minus} {abs(angle):.0f}°" for angle, plus, minus in turns if _counts(angle)]
    return words or ["facing the camera"]


def _counts(angle: float) -> bool:
    return abs(angle) >= LEAST_TURN


def _expression_words(facts: Facts) -> list[str]:
    words = []
    if facts.eyes_open is not None:
        words.append(_eye_words(facts.eyes_open))
    if facts.smile is not None:
        words += ["smiling"] if facts.smile >= SMILE else ["smiling a little"] if facts.smile >= SLIGHT_SMILE else []
    if facts.mouth_open is not None and facts.mouth_open >= MOUTH_OPEN:
        words.append("mouth open")
    return words


def _eye_words(eyes_open: float) -> str:
    # Blendshapes cannot tell a lowered gaze from a closing lid, so the words do not either.
    if eyes_open >= EYES_OPEN:
        return "eyes open"
    return "eyes half open or lowered" if eyes_open >= EYES_HALF_OPEN else "eyes closed or lowered"


def _picture_words(facts: Facts) -> list[str]:
    words = ["sharp" if facts.sharpness >= SHARP else "soft" if facts.sharpness >= BLURRED else "blurred"]
    # "Dark" or "bright" beside a face would read as its skin.
    if facts.brightness < UNDEREXPOSED:
        words.append("underexposed")
    if facts.brightness > OVEREXPOSED:
        words.append("overexposed")
    if facts.contrast < FLAT:
        words.append("little contrast")
    return words


def _mean(shapes: dict[str, float], *names: str) -> float | None:
    if not all(name in shapes for name in names):
        return None
    return sum(shapes[name] for name in names) / len(names)


def _complement(value: float | None) -> float | None:
    return None if value is None else 1.0 - value
