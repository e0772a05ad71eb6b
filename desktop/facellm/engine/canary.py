"""The self-test at load: does this llama.cpp still see what the model was trained to see?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellm.core import canary
from facellm.core.faces import RgbImage
from facellm.engine.errors import RuntimeChanged

#: Mean token cosine below which the runtime computes something else than the model was trained on. Measured for
#: the nano: 0.999998 with F16 weights, 0.9988 with Q8_0 (not shipped), 0.69 with the class token misplaced.
LEAST_COSINE = 0.999
#: Where the image part's weights have 8 bits, whose rounding is no fault of the runtime's.
LEAST_COSINE_8_BITS = 0.99
#: general.file_type of such a file.
_MOSTLY_Q8_0 = 7

#: Self-tests that are remembered, at most.
REMEMBERED = 200


class Passed:
    """Remembers that a self-test was passed: that of a model of InternVL3-1B's size takes some seconds.

    What would change the result is in the note's name: the file, llama.cpp's version, where it computes. One empty
    file a note, so that two engines cannot spoil each other's.
    """

    def __init__(self, folder: Path, mmproj: Path, runtime: str, where: str) -> None:
        state = mmproj.stat()
        what = [
            str(mmproj.resolve()),
            state.st_size,
            state.st_mtime_ns,
            runtime,
            where,
            LEAST_COSINE,
            LEAST_COSINE_8_BITS,
        ]
        self._note = folder / hashlib.sha256(json.dumps(what).encode()).hexdigest()

    def known(self) -> bool:
        """Whether this very test was passed before."""
        return self._note.exists()

    def remember(self) -> None:
        """It is passed. A disk that takes no note costs time at the next start, no more."""
        with suppress(OSError):
            self._note.parent.mkdir(parents=True, exist_ok=True)
            notes = sorted(self._note.parent.iterdir(), key=lambda note: note.stat().st_mtime)
            for old in notes[: max(0, len(notes) - REMEMBERED + 1)]:
                old.unlink(missing_ok=True)
            self._note.touch()


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
    least = LEAST_COSINE_8_BITS if eyes.get("general.file_type") == _MOSTLY_Q8_0 else LEAST_COSINE
    if not cosine >= least:
        raise RuntimeChanged(
            "This version of llama.cpp computes other image embeddings than the model was trained on "
            f"(cosine {cosine:.4f}, at least {least} expected).",
            "Install the version of llama-cpp-python that FaceLLM pins.",
        )
    tell(1.0)
