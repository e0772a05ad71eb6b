"""A box drawn by hand becomes a face: measured like a found one, or cut by the box alone where there is no mesh."""

from __future__ import annotations

import numpy as np
import pytest

from facellm.core.errors import FaceLLMError
from facellm.core.faces import FaceBox, Photo, RgbImage
from facellm.vision.crop import box_tile, face_tile
from facellm.vision.finder import LEAST_BOX, BoxError, FaceFinder

#: On the astronaut's flag and suit: no face.
NOWHERE = FaceBox(30, 300, 120, 150, 0.0)


@pytest.fixture
def photo(person: RgbImage) -> Photo:
    return Photo("test", np.ascontiguousarray(person))


@pytest.mark.parametrize("size", [0.7, 1.0, 1.8])
def test_a_box_drawn_round_a_face_gives_nearly_the_tile_of_the_found_one(
    finder: FaceFinder, photo: Photo, size: float
) -> None:
    (found,) = finder.find(photo)
    box = found.box
    width, height = size * box.w, size * box.h
    x, y = box.centre
    drawn = finder.measure_box(photo, FaceBox(x - width / 2 + 9, y - height / 2 - 7, width, height, 0.3))
    tiles = [tile.astype(int) for tile in (face_tile(photo, found, 224), face_tile(photo, drawn, 224))]
    # 3.5 px of 224 apart when drawn nearly twice as wide; by the box alone it would be another picture.
    assert np.abs(tiles[0] - tiles[1]).mean() < 10 < np.abs(tiles[0] - box_tile(photo, drawn.box, 224)).mean()
    assert drawn.box.score == 1.0
    assert drawn.facts.width_px == pytest.approx(width)
    assert drawn.facts.yaw == pytest.approx(found.facts.yaw, abs=5)
    assert drawn.facts.smile == pytest.approx(found.facts.smile, abs=0.15)
    assert drawn.points == pytest.approx(found.points, abs=4)


def test_a_box_without_a_face_is_cut_upright_and_square(finder: FaceFinder, photo: Photo) -> None:
    face = finder.measure_box(photo, NOWHERE)
    assert face.landmarks is None
    assert face.blendshapes is None
    assert np.isnan(face.points).all()
    assert (face.facts.yaw, face.facts.smile) == (None, None)
    assert face.facts.sharpness > 0
    tile = face_tile(photo, face, 224)
    assert (tile.shape, tile.dtype) == ((224, 224, 3), np.uint8)
    assert np.array_equal(tile, box_tile(photo, NOWHERE, 224))
    assert tile.std() > 10


def test_a_neighbours_mesh_is_not_taken(finder: FaceFinder, person: RgbImage) -> None:
    head = person[20:230, 160:300]
    row = np.tile(head, (1, 3, 1))
    row[:, 140:280] = 128  # the one in the middle is gone; the others lie in the crop that its mesh is looked for in
    face = finder.measure_box(Photo("row", np.ascontiguousarray(row)), FaceBox(145, 20, 130, 170, 1.0))
    assert face.landmarks is None


def test_a_box_over_the_edge_is_clipped(finder: FaceFinder, photo: Photo) -> None:
    face = finder.measure_box(photo, FaceBox(-40, 400, 100, 300, 1.0))
    assert (face.box.x, face.box.y, face.box.w, face.box.h) == (0, 400, 60, 112)


@pytest.mark.parametrize(
    ("box", "says"),
    [
        (FaceBox(100, 100, LEAST_BOX - 1, 50, 1.0), "11 × 50"),
        (FaceBox(100, 100, 50, LEAST_BOX - 1, 1.0), "50 × 11"),
        (FaceBox(505, 100, 50, 50, 1.0), "7 × 50"),
        (FaceBox(600, 100, 50, 50, 1.0), "outside"),
        (FaceBox(100, -80, 50, 50, 1.0), "outside"),
    ],
)
def test_what_cannot_be_a_face_says_why(finder: FaceFinder, photo: Photo, box: FaceBox, says: str) -> None:
    with pytest.raises(BoxError, match=says) as caught:
        finder.measure_box(photo, box)
    assert isinstance(caught.value, FaceLLMError)
    assert caught.value.hint
