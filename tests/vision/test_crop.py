"""Tiles look as FairFace's crops do: upright, square, averaged when shrunk, the edge repeated beyond the photo."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.scenes import Portrait
from facellm.core.faces import Face, FaceBox, Facts, Photo, RgbImage
from facellm.vision.crop import NEUTRAL, box_tile, face_tile, face_transform, whole_tile
from facellm.vision.finder import FaceFinder
from facellm.vision.warp import apply, cut, invert, scale_of, similarity, upright

FACTS = Facts(width_px=1, brightness=0, contrast=0, sharpness=0)
CORNERS = np.array([[0, 0], [224, 0], [224, 224], [0, 224]], float)


def photo(pixels: RgbImage) -> Photo:
    return Photo("test", np.ascontiguousarray(pixels))


def bare(face: Face, *, points: bool) -> Face:
    """The face as it is when no mesh is found, with or without the detector's points."""
    kept = np.vstack([face.points[:4], np.full((2, 2), np.nan)]) if points else np.full((6, 2), np.nan)
    return Face(face.label, face.box, face.facts, kept.astype(np.float32))


def corner_error(transform: np.ndarray, other: np.ndarray) -> float:
    """Mean distance in tile pixels between where both put the other's corners."""
    return float(np.hypot(*(apply(transform, apply(invert(other), CORNERS)) - CORNERS).T).mean())


def test_similarity_finds_a_known_transform() -> None:
    rng = np.random.default_rng(0)
    known = upright((30, 40), 1.7, (100, 90), roll=25)
    points = rng.uniform(0, 100, (6, 2))
    assert similarity(points, apply(known, points)) == pytest.approx(known)
    assert scale_of(known) == pytest.approx(1.7)
    assert apply(invert(known), apply(known, points)) == pytest.approx(points)


def test_upright_turns_what_leans_clockwise_up() -> None:
    top = np.array([[10 + 5 * np.sin(np.radians(30)), 10 - 5 * np.cos(np.radians(30))]])
    assert apply(upright((10, 10), 1.0, (0, 0), roll=30), top) == pytest.approx(np.array([[0, -5]]))


def test_a_part_cut_as_it_is_keeps_its_pixels(person: RgbImage) -> None:
    shift = np.array([[1.0, 0, -100], [0, 1.0, -50]])
    assert np.array_equal(cut(person, shift, 300), person[50:350, 100:400])


def test_shrinking_averages_instead_of_skipping_pixels() -> None:
    stripes = np.zeros((2000, 2000, 3), np.uint8)
    stripes[:, ::2] = 255
    for scale in (0.5, 0.37, 0.1):
        tile = cut(stripes, np.array([[scale, 0, -20], [0, scale, -20]]), 100)
        inner = tile[5:-5, 5:-5].astype(float)
        assert abs(inner.mean() - 127.5) < 3
        assert inner.std() < 20  # exact averaging leaves 16 at 0.37, bilinear sampling alone more than 60


def test_shrinking_equals_area_averaging(person: RgbImage) -> None:
    large = np.asarray(cv2.resize(person, (4096, 4096), interpolation=cv2.INTER_AREA), np.uint8)
    tile = cut(large, np.array([[1 / 16, 0, -40], [0, 1 / 16, -20]]), 100)
    truth = cv2.resize(large[320:1920, 640:2240], (100, 100), interpolation=cv2.INTER_AREA)
    assert np.abs(tile.astype(int) - truth).max() <= 2


def test_beyond_the_photo_its_edge_is_repeated() -> None:
    pixels = np.full((50, 50, 3), 200, np.uint8)
    pixels[:, 0] = (250, 10, 20)
    tile = cut(pixels, np.array([[1.0, 0, 60], [0, 1.0, 60]]), 100)
    assert (tile[:, :60] == (250, 10, 20)).all()


@pytest.mark.parametrize("angle", [0, -35, 35])
def test_a_tilted_face_comes_upright_with_the_eyes_on_dlibs_line(
    finder: FaceFinder, person: RgbImage, angle: int
) -> None:
    turn = cv2.getRotationMatrix2D((224, 120), -angle, 1)
    tilted = photo(np.asarray(cv2.warpAffine(person, turn, (512, 512), borderMode=cv2.BORDER_REPLICATE), np.uint8))
    (face,) = finder.find(tilted)
    tile = face_tile(tilted, face, 224)
    assert tile.shape == (224, 224, 3)
    assert tile.dtype == np.uint8
    transform = face_transform(face.box, face.points, face.landmarks, 224)
    right, left = apply(transform, face.points[:2].astype(float))
    assert abs(right[1] - left[1]) < 6
    assert (right[1] + left[1]) / 2 == pytest.approx(69, abs=7)  # FairFace: 69 of 224
    assert left[0] - right[0] == pytest.approx(80, abs=10)


def test_margin_widens_the_view_by_the_template(finder: FaceFinder, person: RgbImage) -> None:
    (face,) = finder.find(photo(person))
    for bare_face in (face, bare(face, points=True), bare(face, points=False)):
        arguments = (bare_face.box, bare_face.points, bare_face.landmarks, 224)
        narrow, wide = face_transform(*arguments, margin=0.25), face_transform(*arguments, margin=0.75)
        assert scale_of(narrow) / scale_of(wide) == pytest.approx(2.5 / 1.5)
        assert apply(narrow, apply(invert(wide), np.array([[112.0, 112.0]]))) == pytest.approx(
            np.array([[112, 112]]), abs=1
        )


def test_tiles_of_any_side_show_the_same(finder: FaceFinder, person: RgbImage) -> None:
    (face,) = finder.find(photo(person))
    small, large = face_tile(photo(person), face, 112), face_tile(photo(person), face, 448)
    shrunk = cv2.resize(large, (112, 112), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - shrunk).mean() < 4


def test_without_a_mesh_the_points_give_nearly_the_same_crop(finder: FaceFinder, portraits: list[Portrait]) -> None:
    by_points, by_box = [], []
    for portrait in portraits[::5]:
        face = max(finder.find(photo(portrait.pixels)), key=lambda f: f.box.w)
        truth = face_transform(face.box, face.points, face.landmarks, 224)
        for errors, points in ((by_points, True), (by_box, False)):
            other = bare(face, points=points)
            errors.append(corner_error(face_transform(other.box, other.points, None, 224), truth))
    assert np.median(by_points) < 20
    assert np.median(by_box) < 22
    assert np.mean(by_points) <= np.mean(by_box)


@pytest.mark.parametrize("angle", [-40, 40])
def test_without_a_mesh_a_strong_tilt_is_turned_back(finder: FaceFinder, person: RgbImage, angle: int) -> None:
    turn = cv2.getRotationMatrix2D((224, 120), -angle, 1)
    tilted = photo(np.asarray(cv2.warpAffine(person, turn, (512, 512), borderMode=cv2.BORDER_REPLICATE), np.uint8))
    (face,) = finder.find(tilted)
    transform = face_transform(face.box, bare(face, points=True).points, None, 224)
    right, left = apply(transform, face.points[:2].astype(float))
    lean = np.degrees(np.arctan2(left[1] - right[1], left[0] - right[0]))
    assert abs(lean) < 15


def test_the_whole_photo_is_neither_stretched_nor_cut() -> None:
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:, :150] = (255, 0, 0)
    tile = whole_tile(photo(pixels), 224)
    assert tile.shape == (224, 224, 3)
    assert (tile[:70] == NEUTRAL).all()
    assert (tile[-70:] == NEUTRAL).all()
    assert (tile[80:140, :105] == (255, 0, 0)).all()
    assert (tile[80:140, 120:] == 0).all()
    assert (whole_tile(photo(np.full((1, 5000, 3), 9, np.uint8)), 224)[111] == 9).all()
    assert (whole_tile(photo(np.full((2, 2, 3), 9, np.uint8)), 224) == 9).all()


def test_a_drawn_box_is_cut_square_round_its_middle(person: RgbImage) -> None:
    tile = box_tile(photo(person), FaceBox(177, 62, 93, 116, 1.0), 224)
    assert tile.shape == (224, 224, 3)
    wide = box_tile(photo(person), FaceBox(-50, -50, 30, 30, 1.0), 64)  # quite outside: the corner's colour
    assert (wide == person[0, 0]).all()


def test_fairface_crops_come_back_as_they_are(finder: FaceFinder, shared_data: Path) -> None:
    """A FairFace crop with a repeated border goes through the finder; its tile must be the crop itself."""
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = parquet.ParquetFile(next((shared_data / "fairface").glob("validation-*.parquet"))).iter_batches(200)
    errors, missed = [], 0
    for row in next(rows).to_pylist():
        crop = cv2.cvtColor(cv2.imdecode(np.frombuffer(row["image"]["bytes"], np.uint8), 1), cv2.COLOR_BGR2RGB)
        padded = cv2.copyMakeBorder(crop, 60, 60, 60, 60, cv2.BORDER_REPLICATE)
        faces = finder.find(photo(np.asarray(padded, np.uint8)))
        if not faces:
            missed += 1
            continue
        face = max(faces, key=lambda f: f.box.w)
        transform = face_transform(face.box, face.points, face.landmarks, 224)
        errors.append(float(np.hypot(*(apply(transform, CORNERS + 60) - CORNERS).T).mean()))
    assert missed <= 24  # measured 8 % of such padded crops: mostly profiles and blur
    assert np.median(errors) < 9
    assert np.mean(errors) < 18
