"""The face mesh: 478 landmarks, blendshapes and head rotation by MediaPipe. The only file that imports mediapipe.

mediapipe is pinned to 0.10.31: later versions report usage to a server. What it does badly, measured, and what
is done about it here: it aborts the process on pictures that are not uint8 and on a missing model file (both are
checked before the call); a task that is garbage-collected unclosed can deadlock in its own ``__del__`` (tasks stay
referenced in ``_OPEN`` until closed); ``detect`` after ``close`` returns nothing without an error (checked).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellm.core.errors import ModelPartError
from facellm.core.faces import RgbImage

#: MediaPipe's face mesh: 468 points of the face and 2 x 5 of the irises.
LANDMARKS = 478

#: Confidence from which the detector inside the landmarker, and then the mesh, counts as a face. At MediaPipe's own
#: 0.5 it meets fewer tight FairFace crops than at 0.3 (82 %); false boxes do not come from here, because the crop
#: that is shown to it was chosen by another detector.
CONFIDENCE = 0.3

#: Tasks that are open. They must never be collected unclosed, see above.
_OPEN: set[Any] = set()


@dataclass(frozen=True, slots=True)
class Mesh:
    """``landmarks``: float32 ``[478, 3]`` in pixels of the picture it was measured on (z too, smaller is nearer).

    ``blendshapes``: 52 names, each 0..1. ``rotation``: float64 ``[3, 3]``, from the canonical face's axes to the
    camera's (x right, y up, z to the viewer), without scale.
    """

    landmarks: NDArray[np.float32]
    blendshapes: dict[str, float]
    rotation: NDArray[np.float64]


class FaceMesh:
    """One face's mesh on a crop that shows it large. Not thread-safe; close it when done."""

    def __init__(self, landmarker: Path) -> None:
        """Load ``face_landmarker.task``. Raises ``ModelPartError`` when it is missing or not a landmarker."""
        from mediapipe.tasks.python import BaseOptions, vision

        try:
            buffer = landmarker.read_bytes()
        except OSError as error:
            raise ModelPartError(
                f"The face landmark model could not be read: {error.strerror}.", "Run: facellm models verify"
            ) from error
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=buffer),
            num_faces=1,
            min_face_detection_confidence=CONFIDENCE,
            min_face_presence_confidence=CONFIDENCE,
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
        )
        try:
            self._task: Any = vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            raise ModelPartError(
                f"{landmarker.name} is not a usable face landmark model.", "Run: facellm models verify"
            ) from error
        _OPEN.add(self._task)

    def measure(self, pixels: RgbImage) -> Mesh | None:
        """The mesh of the most certain face in ``pixels``, or ``None`` when there is none."""
        from mediapipe import Image, ImageFormat

        if self._task is None:
            raise RuntimeError("the face mesh was closed")
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
            raise ValueError(f"expected uint8 [H, W, 3], got {pixels.dtype} {pixels.shape}")
        found = self._task.detect(Image(ImageFormat.SRGB, np.ascontiguousarray(pixels)))
        if not found.face_landmarks:
            return None
        height, width = pixels.shape[:2]
        scale = (width, height, width)  # MediaPipe gives x and z in widths, y in heights
        points = np.array([(p.x, p.y, p.z) for p in found.face_landmarks[0]], np.float32)
        matrix = np.asarray(found.facial_transformation_matrixes[0], np.float64)[:3, :3]
        return Mesh(
            landmarks=points * np.array(scale, np.float32),
            blendshapes={shape.category_name: float(shape.score) for shape in found.face_blendshapes[0]},
            rotation=matrix / np.linalg.norm(matrix, axis=0),
        )

    def close(self) -> None:
        """Free the model; again is harmless."""
        task, self._task = self._task, None
        if task is not None:
            task.close()
            _OPEN.discard(task)
