"""The face mesh: 478 landmarks, blendshapes and head rotation by MediaPipe. The only file that imports mediapipe.

mediapipe is pinned to 0.10.31: later versions report usage to a server. What it does badly, measured, and what
is done about it here: it aborts the process on pictures that are not uint8 and on a missing model file (both are
checked before the call); a task that is garbage-collected unclosed can deadlock in its own ``__del__`` (tasks stay
referenced in ``_OPEN`` until closed); ``detect`` after ``close`` returns nothing without an error (checked).
"""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellm.core.command import command
from facellm.core.errors import ModelPartError
from facellm.core.faces import RgbImage

#: MediaPipe's face mesh: 468 points of the face and 2 x 5 of the irises.
LANDMARKS = 478

#: Confidence from which the detector inside the landmarker, and then the mesh, counts as a face. At MediaPipe's own
#: 0.5 it meets fewer tight FairFace crops than at 0.3 (82 %); false boxes do not come from here, because the crop
#: that is shown to it was chosen by another detector.
CONFIDENCE = 0.3

#: What a ``.task``, which is a zip file, must hold.
_MEMBERS = {"face_detector.tflite", "face_landmarks_detector.tflite", "face_blendshapes.tflite"}
_HINT = f"Run: {command('models', 'verify')}"

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


def _read_task(path: Path) -> bytes:
    """The file's bytes, when it is a whole ``.task``: MediaPipe leaks a thread on each file that it refuses."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelPartError(f"The face landmark model could not be read: {error.strerror}.", _HINT) from error
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as task:
            whole = set(task.namelist()) >= _MEMBERS and task.testzip() is None
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError) as error:
        raise ModelPartError(f"{path.name} is not a usable face landmark model.", _HINT) from error
    if not whole:
        raise ModelPartError(f"{path.name} is not a usable face landmark model.", _HINT)
    return data


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what native code writes to standard error meanwhile.

    Loading the models prints four lines of warnings to every user, and no setting of MediaPipe's, absl's or
    TensorFlow's stops them. Python's own ``sys.stderr`` writes to the same file, hence only for these 30 ms.
    """
    try:
        kept = os.dup(2)
    except OSError:  # a window's process on Windows may have no standard error
        yield
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)


class FaceMesh:
    """One face's mesh on a crop that shows it large. Not thread-safe; close it when done."""

    def __init__(self, landmarker: Path) -> None:
        """Load ``face_landmarker.task``. Raises ``ModelPartError`` when it is missing or not a landmarker."""
        from mediapipe.tasks.python import BaseOptions, vision

        buffer = _read_task(landmarker)
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=buffer),
            num_faces=1,
            min_face_detection_confidence=CONFIDENCE,
            min_face_presence_confidence=CONFIDENCE,
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
        )
        try:
            with _quiet():
                self._task: Any = vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            raise ModelPartError(f"{landmarker.name} is not a usable face landmark model.", _HINT) from error
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
