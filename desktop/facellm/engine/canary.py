"""The self-test at load: does this llama.cpp still see what the model was trained to see?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellm.core import canary
from facellm.core.faces import RgbImage
from facellm.engine.errors import RuntimeChanged

#: Mean token cosine below which the runtime computes something else than the model was trained on. Measured for
#: the nano's layout: 0.99995 with f16 weights, 0.997 with q8_0 (not shipped), 0.69 with the class token misplaced.
LEAST_COSINE = 0.999


def check_canary(
    eyes: dict[str, Any], tile: int, embed: Callable[[RgbImage], NDArray[np.float32]], tell: Callable[[float], None]
) -> None:
    """Compare the embedding of the canary picture with the one stored in the mmproj, where one is stored.

    ``embed`` gives ``[tokens, width]``. Raises ``RuntimeChanged``.
    """
    stored = eyes.get("facellm.canary.embedding")
    if stored is None:
        return
    if eyes.get("facellm.canary.picture") != canary.PICTURE:
        raise RuntimeChanged("This model was made for a newer FaceLLM.", "Update FaceLLM.")
    tell(0.0)
    tokens = int(eyes["facellm.canary.tokens"])
    wanted = np.array(stored, np.float32).reshape(tokens, -1)
    found = embed(canary.waves(tile))[:tokens]
    norms = np.linalg.norm(wanted, axis=1) * np.linalg.norm(found, axis=1)
    cosine = float(((wanted * found).sum(axis=1) / np.maximum(norms, 1e-9)).mean())
    if not cosine >= LEAST_COSINE:
        raise RuntimeChanged(
            "This version of llama.cpp computes other image embeddings than the model was trained on "
            f"(cosine {cosine:.4f}, at least {LEAST_COSINE} expected).",
            "Install the version of llama-cpp-python that FaceLLM pins.",
        )
    tell(1.0)
