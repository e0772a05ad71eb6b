"""The square picture that a model receives: one face as FairFace crops it, a drawn box, or the whole photo."""

from __future__ import annotations

from math import atan2, degrees, exp

import numpy as np
from numpy.typing import NDArray

from facellm.core.faces import Face, FaceBox, Photo, RgbImage
from facellm.vision.warp import Transform, cut, similarity, upright

#: FairFace's crop: dlib's ``get_face_chip`` with this padding on each side, part of the template's side.
MARGIN = 0.25

#: dlib's five-point template on the unit square, before padding (dlib ``image_transforms/interpolation.h``): outer and
#: inner corner of the left eye, of the right eye, and the base of the nose.
_TEMPLATE = np.array(
    [
        (0.8595674595992, 0.2134981538014),
        (0.6460604764104, 0.2289674387677),
        (0.1205750620789, 0.2137274526848),
        (0.3340850613712, 0.2290642403242),
        (0.4901123135679, 0.6277975316475),
    ]
)
#: The mesh points that lie where dlib puts its five. On 827 FairFace crops put back through this transform the corners
#: come out 10.0 px of 224 from where they were in the mean, 6.3 in the median (5.1 for frontal faces), without bias in
#: scale (0.989) or place (1.4 px); the nose's tip instead of its base gives 12.3, all 468 points 12.8.
_TEMPLATE_MESH = (263, 398, 33, 173, 2)

#: Without a mesh (mostly profiles) the crop follows from YuNet's box and points, by a robust fit to 500 FairFace
#: crops. ``lean`` is how far the nose lies beside the middle of eyes and mouth, in box sizes (root of the area), > 0 to
#: the right: FairFace's crop moves with it and gets tighter. Unseen crops: mean corner error 37 px of 224 where
#: there is no mesh, 48 without the lean; 11 for frontal faces.
_BOX_SIDE = 0.0958
_BOX_SIDE_LEAN = -0.8015
_BOX_RIGHT_LEAN = 1.044
_BOX_DOWN = 0.0997
_BOX_DOWN_LEAN = 0.1297
#: The line from the eyes' to the mouth's middle leans on a turned, upright head by this many degrees per ``lean``;
#: what is left scatters by 5 to 7 degrees in upright crops, so a smaller tilt is not corrected: that costs more.
_AXIS_LEAN = 21.6
_LEAST_TILT = 12.0

#: Border of the whole photo in its square: the mean colour of CLIP's training pictures, which is zero for the tower.
NEUTRAL = (122, 116, 104)


def face_tile(photo: Photo, face: Face, tile: int, margin: float = MARGIN) -> RgbImage:
    """The face as FairFace crops it: upright, square, uint8 RGB ``[tile, tile, 3]``.

    ``margin`` is the part of the template's side added on each side. Where the photo ends its edge is repeated.
    """
    return cut(photo.pixels, face_transform(face.box, face.points, face.landmarks, tile, margin), tile)


def box_tile(photo: Photo, box: FaceBox, tile: int, margin: float = MARGIN) -> RgbImage:
    """The crop for a box that the user drew round a face, not turned, uint8 RGB ``[tile, tile, 3]``."""
    return cut(photo.pixels, _box_transform(box, tile, margin), tile)


def whole_tile(photo: Photo, tile: int) -> RgbImage:
    """The whole photo, centred in ``[tile, tile, 3]`` with a neutral border: nothing is stretched or cut off."""
    import cv2

    scale = tile / max(photo.width, photo.height)
    width, height = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    flag = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    left, top = (tile - width) // 2, (tile - height) // 2
    square = np.full((tile, tile, 3), NEUTRAL, np.uint8)
    square[top : top + height, left : left + width] = cv2.resize(photo.pixels, (width, height), interpolation=flag)
    return square


def face_transform(
    box: FaceBox,
    points: NDArray[np.floating],
    landmarks: NDArray[np.floating] | None,
    tile: int,
    margin: float = MARGIN,
) -> Transform:
    """Photo to tile for a face: by its mesh, else by the six points, else by the box alone (points NaN)."""
    if landmarks is not None:
        source = landmarks[list(_TEMPLATE_MESH), :2].astype(np.float64)
        return similarity(source, (_TEMPLATE + margin) / (1 + 2 * margin) * tile)
    right_eye, left_eye, nose, mouth = points[:4].astype(np.float64)
    eyes = (right_eye + left_eye) / 2
    if not np.isfinite([*eyes, *nose, *mouth]).all():
        return _box_transform(box, tile, margin)
    size = (box.w * box.h) ** 0.5
    lean = float(nose[0] - (eyes[0] + mouth[0]) / 2) / size
    axis = mouth - eyes
    roll = _AXIS_LEAN * -lean - degrees(atan2(axis[0], axis[1]))
    return _box_transform(box, tile, margin, lean, roll if abs(roll) >= _LEAST_TILT else 0.0)


def _box_transform(box: FaceBox, tile: int, margin: float, lean: float = 0.0, roll: float = 0.0) -> Transform:
    size = (box.w * box.h) ** 0.5
    side = size * exp(_BOX_SIDE + _BOX_SIDE_LEAN * abs(lean)) * (1 + 2 * margin) / (1 + 2 * MARGIN)
    turned = upright((0.0, 0.0), 1.0, (0.0, 0.0), -roll)[:, :2]
    right, down = turned @ np.array([_BOX_RIGHT_LEAN * lean, _BOX_DOWN + _BOX_DOWN_LEAN * abs(lean)]) * size
    x, y = box.centre
    return upright((x + right, y + down), tile / side, (tile / 2, tile / 2), roll)
