"""Pictures of the kind that faces are: drawn from ellipses, so that no person's photo is needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facellm_converters.equality.tower import Picture

_Colour = tuple[int, int, int]
#: Centre and half axes of an ellipse, in halves of the side from the middle, and its colour.
_Part = tuple[float, float, float, float, _Colour]

_SMILING: tuple[_Part, ...] = (
    (0.00, -0.15, 0.62, 0.75, (58, 40, 30)), (0.00, 0.05, 0.50, 0.68, (222, 178, 150)),
    (-0.20, -0.10, 0.10, 0.05, (245, 245, 240)), (0.20, -0.10, 0.10, 0.05, (245, 245, 240)),
    (-0.20, -0.10, 0.045, 0.05, (70, 50, 40)), (0.20, -0.10, 0.045, 0.05, (70, 50, 40)),
    (-0.20, -0.23, 0.13, 0.02, (60, 42, 32)), (0.20, -0.23, 0.13, 0.02, (60, 42, 32)),
    (0.00, 0.12, 0.06, 0.10, (205, 158, 130)), (0.00, 0.38, 0.20, 0.08, (180, 80, 80)),
    (0.00, 0.35, 0.20, 0.06, (222, 178, 150)),
)  # fmt: skip
_BESPECTACLED: tuple[_Part, ...] = (
    (0.12, -0.12, 0.55, 0.70, (150, 148, 145)), (0.08, 0.02, 0.46, 0.64, (140, 98, 72)),
    (-0.12, -0.08, 0.17, 0.13, (25, 25, 28)), (0.26, -0.08, 0.15, 0.13, (25, 25, 28)),
    (-0.12, -0.08, 0.14, 0.10, (190, 175, 165)), (0.26, -0.08, 0.12, 0.10, (190, 175, 165)),
    (-0.13, -0.08, 0.04, 0.05, (40, 30, 25)), (0.25, -0.08, 0.04, 0.05, (40, 30, 25)),
    (0.04, 0.12, 0.06, 0.10, (118, 80, 58)), (0.06, 0.48, 0.30, 0.18, (60, 55, 52)),
    (0.05, 0.36, 0.15, 0.03, (110, 52, 50)),
)  # fmt: skip


def faces(side: int) -> list[Picture]:
    """Two faces, uint8 RGB ``[side, side, 3]``: one smiles, lit from the left; one has spectacles and a beard."""
    return [_drawn(side, _SMILING, (96, 130, 160), -0.35), _drawn(side, _BESPECTACLED, (205, 200, 190), 0.5)]


def _drawn(side: int, parts: tuple[_Part, ...], behind: _Colour, light: float) -> Picture:
    """``light``: how much brighter the right border is than the left, as a share."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float64) * 2 / side - 1
    picture: NDArray[np.float64] = np.full((side, side, 3), behind, np.float64)
    for centre, middle, wide, high, colour in parts:
        picture[((x - centre) / wide) ** 2 + ((y - middle) / high) ** 2 < 1] = colour
    picture *= (1 + light * x / 2 - 0.15 * y)[..., None]
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
