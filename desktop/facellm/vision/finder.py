"""Find the faces of a photo and measure them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from facellm.core.faces import Face, FaceBox, Facts, Photo, RgbImage, face_label
from facellm.vision.crop import face_transform
from facellm.vision.detect import FaceDetector, Found
from facellm.vision.facts import FACTS_TILE, measure
from facellm.vision.mesh import FaceMesh, Mesh
from facellm.vision.warp import cut, invert, upright

#: The mesh is measured on a crop of these many boxes, the face's own pixels scaled to about the mesh model's 256 px.
#: On 2 boxes it is found at any face size down to 12 px; the second, closer look is for a neighbour who was taken.
MESH_BOXES = (2.0, 1.5)
MESH_SIDE = 384
#: A mesh whose bounding box overlaps the found face's box less is another face's.
MESH_OVERLAP = 0.3

#: Border in pixels put around a tight 224 px crop before its landmarks are looked for: without it the detector inside
#: the landmarker meets 2 % of crops tighter than the face's box, with it 82 % of FairFace's.
CROP_BORDER = 60
#: Face widths (YuNet's box) in the side of a FairFace crop, median of 917.
BOXES_PER_CROP = 1.268

#: Mesh points for right and left eye (iris centres), nose tip, mouth (between the lips), right and left ear.
_EYES_NOSE = (468, 473, 1)
_LIPS = (13, 14)
_EARS = (234, 454)


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
            faces = [self._measured(pixels, one) for one in found]
        faces.sort(key=lambda face: (face.box.centre, face.box.w))
        return [replace(face, label=face_label(index)) for index, face in enumerate(faces)]

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

    def _measured(self, pixels: RgbImage, found: Found) -> Face:
        mesh = self._mesh_of(pixels, found.box)
        landmarks = mesh.landmarks if mesh else None
        points = _points_of_mesh(mesh.landmarks) if mesh else _points_of_yunet(found.points)
        tile = cut(pixels, face_transform(found.box, points, landmarks, FACTS_TILE), FACTS_TILE)
        facts = measure(tile, found.box.w, mesh.rotation, mesh.blendshapes) if mesh else measure(tile, found.box.w)
        return Face("", found.box, facts, points, landmarks, mesh.blendshapes if mesh else None)

    def _mesh_of(self, pixels: RgbImage, box: FaceBox) -> Mesh | None:
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
            if _hull(landmarks, box.score).iou(box) > MESH_OVERLAP:
                return replace(mesh, landmarks=landmarks)
        return None


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
