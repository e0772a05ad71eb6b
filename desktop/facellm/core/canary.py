"""The canary: a picture made by formula, whose embedding is stored in a model and compared at load.

llama.cpp's vision graphs have changed their meaning between versions (position table, class token);
a runtime that computes something else than the model was trained on must fail loudly.
"""

from __future__ import annotations

import numpy as np

from facellm.core.faces import RgbImage

PICTURE = "waves-1"


def waves(size: int) -> RgbImage:
    """Smooth colour waves and a bright disc, uint8 RGB ``[size, size, 3]``.

    Every patch differs from its neighbours, so that a shift by one patch shows.
    """
    y, x = np.mgrid[0:size, 0:size].astype(np.float64) / size
    red = np.sin(2 * np.pi * (3.1 * x + 0.7 * y)) + np.cos(9.2 * x * y)
    green = np.sin(2 * np.pi * (1.3 * x * x + 2.9 * y)) + np.cos(5.3 * (x - y))
    blue = np.cos(2 * np.pi * (2.3 * x * y + 0.4)) + np.sin(4.1 * y)
    disc = ((x - 0.4) ** 2 + (y - 0.55) ** 2 < 0.09) * 0.8
    planes = np.stack([red + disc, green + disc, blue - disc], axis=-1)
    return np.ascontiguousarray(np.clip(np.rint((planes / 4 + 0.5) * 255), 0, 255).astype(np.uint8))
