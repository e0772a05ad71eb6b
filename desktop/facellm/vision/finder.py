"""Find the faces of a photo and measure them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from facellm.core.errors import FaceLLMError
from facellm.core.faces import Face, FaceBox, Facts, Photo, RgbImage, face_label
from facellm.vision.crop import face_transform
from facellm.vision.detect import FaceDetector
from facellm.vision.facts import FACTS_TILE, measure
from facellm.vision.mesh import FaceMesh, Mesh
from facellm.vision.warp import cut, invert, upright

#: The mesh is measured on a crop of these many boxes, the face's own pixels scaled to about the mesh model's 256 px.
#: On 2 boxes it is found at any face size down to 12 px; the second, closer look is for a neighbour who was taken.
MESH_BOXES = (2.0, 1.5)
MESH_SIDE = 384
#: A mesh whose bounding box overlaps the found face's box less is another face's.
MESH_OVERLAP = 0.3
#: The same for a box drawn by hand, which is seldom as tight as a found one. Drawn 15 % beside 25 faces close to each
#: other, half to twice as wide as found: at 0.15 the right mesh every time, at 0.3 none from twice on; at 0.08 of 2.5
#: times as wide 2 of 15 are a neighbour's.
DRAWN_OVERLAP = 0.15
#: Sides of a drawn box in pixels from which there is something to see: the smallest faces that are found.
LEAST_BOX = 12

#: Border in pixels put around a tight 224 px crop before its landmarks are looked for: without it the detector inside
#: the landmarker meets 2 % of crops tighter than the face's box, with it 82 % of FairFace's.
CROP_BORDER = 60
#: Face widths (YuNet's box) in the side of a FairFace crop, median of 917.
BOXES_PER_CROP = 1.268

#: Mesh points for right and left eye (iris centres), nose tip, mouth (between the lips), right and left ear.
_EYES_NOSE = (468, 473, 1)
_LIPS = (13, 14)
_EARS = (234, 454)


class BoxError(FaceLLMError):
    """A box drawn by hand cannot be a face: it is too small, or not on the photo."""


@dataclass(frozen=True, slots=True)
class FaceModels:
    """Files of the two models: MediaPipe's ``face_landmarker.task`` and YuNet's ONNX."""

    landmarker: Path
    yunet: Path


class FaceFinder:
    """Finds and measures faces. One object for the application's life; safe to call from several threads."""

    def __init__(self, models: FaceModels) -> None:
        """Load both models. Raises ``ModelPartError`` when one is missing or something else."""
        self._lock = Lock()
        self._detector = FaceDetector(models.yunet)
        self._mesh = FaceMesh(models.landmarker)

    def find(self, photo: Photo) -> list[Face]:
        """All faces, labelled A, B, … from left to right; the same photo gives the same list."""
        pixels = photo.pixels
        with self._lock:
            found = self._detector.find(pixels)
            faces = [self._measured(pixels, one.box, _points_of_yunet(one.points), MESH_OVERLAP) for one in found]
        faces.sort(key=lambda face: (face.box.centre, face.box.w))
        return [replace(face, label=face_label(index)) for index, face in enumerate(faces)]

    def measure_box(self, photo: Photo, box: FaceBox) -> Face:
        """The face in a box drawn by hand, in photo pixels; not labelled, its score 1.

        What lies beyond the photo is clipped. Where no mesh is found the points are NaN, so that the crop follows from
        the box alone, and pose and expression are ``None``. Raises ``BoxError`` for a box under ``LEAST_BOX`` pixels.
        """
        inside = _clipped(box, photo)
        with self._lock:
            return self._measured(photo.pixels, inside, np.full((6, 2), np.nan, np.float32), DRAWN_OVERLAP)

    def measure_crop(self, pixels: RgbImage) -> tuple[Facts, dict[str, float] | None]:
        """Facts and blendshapes of a picture that is already a tight face crop, such as FairFace's, uint8 RGB.

        Pixel facts are measured on the crop as it is (scaled to ``FACTS_TILE`` if it is not). Pose, expression and
        the blendshapes are ``None`` where no landmarks are found (18 % of FairFace, most of them profiles).
        """
        import cv2

        border = (CROP_BORDER,) * 4
        padded = np.asarray(cv2.copyMakeBorder(pixels, *border, cv2.BORDER_REPLICATE), np.uint8)
        with self._lock:
            mesh = self._mesh.measure(padded)
        tile = pixels
        if pixels.shape[:2] != (FACTS_TILE, FACTS_TILE):
            scaled = cv2.resize(pixels, (FACTS_TILE, FACTS_TILE), interpolation=cv2.INTER_AREA)
            tile = np.asarray(scaled, np.uint8)
        width = pixels.shape[1] / BOXES_PER_CROP
        if mesh is None:
            return measure(tile, width), None
        return measure(tile, width, mesh.rotation, mesh.blendshapes), mesh.blendshapes

    def close(self) -> None:
        """Free the models; again is harmless."""
        with self._lock:
            self._mesh.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _measured(self, pixels: RgbImage, box: FaceBox, points: NDArray[np.float32], overlap: float) -> Face:
        """``points``: the six where there is no mesh."""
        mesh = self._mesh_of(pixels, box, overlap)
        landmarks = mesh.landmarks if mesh else None
        points = _points_of_mesh(mesh.landmarks) if mesh else points
        tile = cut(pixels, face_transform(box, points, landmarks, FACTS_TILE), FACTS_TILE)
        facts = measure(tile, box.w, mesh.rotation, mesh.blendshapes) if mesh else measure(tile, box.w)
        return Face("", box, facts, points, landmarks, mesh.blendshapes if mesh else None)

    def _mesh_of(self, pixels: RgbImage, box: FaceBox, overlap: float) -> Mesh | None:
        """The mesh of the face in ``box``, in photo pixels, from an enlarged crop round it."""
        for boxes in MESH_BOXES:
            side = boxes * max(box.w, box.h)
            transform = upright(box.centre, MESH_SIDE / side, (MESH_SIDE / 2, MESH_SIDE / 2))
            mesh = self._mesh.measure(cut(pixels, transform, MESH_SIDE))
            if mesh is None:
                continue
            back = invert(transform)
            scale = np.array([back[0, 0], back[1, 1], back[0, 0]])
            landmarks = (mesh.landmarks * scale + np.array([back[0, 2], back[1, 2], 0.0])).astype(np.float32)
            if _hull(landmarks, box.score).iou(box) > overlap:
                return replace(mesh, landmarks=landmarks)
        return None


def _clipped(box: FaceBox, photo: Photo) -> FaceBox:
    left, right = (min(max(x, 0.0), float(photo.width)) for x in (box.x, box.x + box.w))
    top, bottom = (min(max(y, 0.0), float(photo.height)) for y in (box.y, box.y + box.h))
    width, height = right - left, bottom - top
    if width <= 0 or height <= 0:
        raise BoxError("The box lies outside of the photo.", "Draw it over the face.")
    if min(width, height) < LEAST_BOX:
        raise BoxError(
            f"The box is {width:.0f} × {height:.0f} px of the photo; a face needs {LEAST_BOX} × {LEAST_BOX}.",
            "Draw it larger.",
        )
    return FaceBox(left, top, width, height, 1.0)


def _hull(landmarks: NDArray[np.float32], score: float) -> FaceBox:
    low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    return FaceBox(float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1]), score)


def _points_of_mesh(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = landmarks[:, :2]
    return np.vstack([flat[list(_EYES_NOSE)], flat[list(_LIPS)].mean(0), flat[list(_EARS)]]).astype(np.float32)


def _points_of_yunet(points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Eyes, nose, the middle of the mouth's corners; no ears."""
    ears = np.full((2, 2), np.nan)
    return np.vstack([points[:3], points[3:].mean(0), ears]).astype(np.float32)
