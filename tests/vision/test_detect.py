"""Faces are found at all sizes, once each, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import cv2
import numpy as np
import pytest

from benchmarks.scenes import Portrait, collage, match, scatter, without_faces
from facellm.core.errors import ModelPartError
from facellm.core.faces import FaceBox, RgbImage
from facellm.vision.detect import TILE_OVERLAP, TILE_SIDE, FaceDetector, Found, merge, tile_spans
from facellm.vision.finder import FaceModels


@pytest.fixture(scope="module")
def detector(models: FaceModels) -> FaceDetector:
    return FaceDetector(models.yunet)


def boxes(detector: FaceDetector, pixels: RgbImage) -> list[FaceBox]:
    return [found.box for found in detector.find(np.ascontiguousarray(pixels))]


def recall(detector: FaceDetector, scenes: Iterator[tuple[RgbImage, list[FaceBox]]]) -> tuple[float, int]:
    hits = faces = extra = 0
    for pixels, truth in scenes:
        found, wrong = match(boxes(detector, pixels), truth)
        hits, faces, extra = hits + found, faces + len(truth), extra + wrong
    return hits / faces, extra


@pytest.mark.parametrize(("width", "least"), [(24, 0.95), (40, 0.98), (100, 0.98)])
def test_faces_of_this_width_in_a_720p_picture_are_found(
    detector: FaceDetector, portraits: list[Portrait], width: int, least: float
) -> None:
    part, extra = recall(detector, scatter(portraits[: 200 if width < 100 else 40], width))
    assert part >= least
    assert extra <= 3  # 200 portraits have two people in their backgrounds, found at some sizes


@pytest.mark.slow
def test_hardly_anything_is_found_where_there_is_no_face(detector: FaceDetector) -> None:
    false = [(name, box) for name, pixels in without_faces(100) for box in boxes(detector, pixels)]
    assert len(false) <= 1, false


def test_twenty_of_twenty_faces_in_a_collage(detector: FaceDetector, portraits: list[Portrait]) -> None:
    pixels, truth = collage(portraits[3::10])
    assert len(truth) == 20
    assert match(boxes(detector, pixels), truth) == (20, 0)


@pytest.mark.parametrize("size", [(4000, 3000), (1000, 750), (160, 120), (64, 48)])
def test_a_face_that_fills_the_picture(detector: FaceDetector, person: RgbImage, size: tuple[int, int]) -> None:
    pixels = cv2.resize(person[50:194, 128:320], size, interpolation=cv2.INTER_AREA)
    found = boxes(detector, np.asarray(pixels, np.uint8))
    scale = size[0] / 192
    truth = FaceBox((177 - 128) * scale, (62 - 50) * scale, 93 * scale, 116 * scale, 1.0)
    assert len(found) == 1
    assert found[0].iou(truth) > 0.6


def test_a_face_cut_by_the_edge_is_found(detector: FaceDetector, person: RgbImage) -> None:
    assert len(boxes(detector, person[90:400, 60:400])) == 1


def test_small_and_large_faces_together(detector: FaceDetector, person: RgbImage) -> None:
    canvas = np.full((1500, 2000, 3), 120, np.uint8)
    canvas[:1500, :1500] = cv2.resize(person, (1500, 1500))
    small = cv2.resize(person, (180, 180), interpolation=cv2.INTER_AREA)  # a face of 33 px
    canvas[100:280, 1700:1880] = small
    canvas[1200:1380, 1700:1880] = small
    assert len(boxes(detector, canvas)) == 3


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (3, 3), (16000, 60), (32, 32)])
def test_odd_shapes_have_no_face_and_do_no_harm(detector: FaceDetector, shape: tuple[int, int]) -> None:
    assert boxes(detector, np.full((*shape, 3), 130, np.uint8)) == []


def test_the_same_picture_gives_the_same_boxes(detector: FaceDetector, person: RgbImage) -> None:
    first = boxes(detector, person)
    boxes(detector, person[:200, :300])  # another size in between
    assert boxes(detector, person) == first


def test_overlapping_boxes_are_one_face_and_the_best_stays() -> None:
    points = np.zeros((5, 2))
    good, worse = Found(FaceBox(0, 0, 10, 10, 0.9), points), Found(FaceBox(1, 1, 10, 10, 0.8), points)
    eye, other = Found(FaceBox(2, 2, 3, 3, 0.85), points), Found(FaceBox(30, 0, 10, 10, 0.5), points)
    assert merge([other, worse, eye, good]) == [good, other]


@pytest.mark.parametrize("length", [1, 127, 128, 129, 1024, 1025, 1080, 1920, 2560, 5001])
def test_parts_cover_the_whole_and_overlap(length: int) -> None:
    spans = tile_spans(length)
    assert spans[0][0] == 0
    assert spans[-1][1] == length
    assert all(0 < end - start <= TILE_SIDE for start, end in spans)
    assert all(a_end - b_start >= TILE_OVERLAP - 1 for (_, a_end), (b_start, _) in pairwise(spans))


def test_a_face_on_the_seam_of_two_parts_is_found_once(detector: FaceDetector, person: RgbImage) -> None:
    canvas = np.full((300, 1280, 3), 120, np.uint8)  # the fine pass sees 1920 px: parts meet at 896..1024
    canvas[:, 490:790] = cv2.resize(person, (300, 300), interpolation=cv2.INTER_AREA)  # the face spans 594..648
    assert len(boxes(detector, canvas)) == 1


def test_a_file_that_is_not_yunet_is_an_error(tmp_path) -> None:
    other = tmp_path / "yunet.onnx"
    with pytest.raises(ModelPartError, match="could not be read"):
        FaceDetector(other)
    for content in (b"", b"not an onnx file" * 100):
        other.write_bytes(content)
        with pytest.raises(ModelPartError, match="not a usable"):
            FaceDetector(other)
