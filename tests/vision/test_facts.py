"""Angles, pixel facts and the words for them."""

from __future__ import annotations

from dataclasses import replace
from math import cos, radians, sin

import cv2
import numpy as np
import pytest

from facellm.core.faces import Facts, RgbImage
from facellm.vision.facts import describe_facts, head_angles, measure

FACTS = Facts(
    width_px=212.4, brightness=0.4, contrast=0.2, sharpness=90.0,
    yaw=0.0, pitch=0.0, roll=0.0, smile=0.0, mouth_open=0.0, eyes_open=0.9,
)  # fmt: skip


def about_y(degrees: float) -> np.ndarray:
    c, s = cos(radians(degrees)), sin(radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def about_x(degrees: float) -> np.ndarray:
    c, s = cos(radians(degrees)), sin(radians(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def about_z(degrees: float) -> np.ndarray:
    c, s = cos(radians(degrees)), sin(radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


@pytest.mark.parametrize("degrees", [-60.0, -18.0, 0.0, 18.0, 60.0])
def test_each_angle_is_read_back(degrees: float) -> None:
    assert head_angles(about_y(degrees)) == pytest.approx((degrees, 0, 0))
    assert head_angles(about_x(-degrees)) == pytest.approx((0, degrees, 0))  # y is up: raising turns about -x
    assert head_angles(about_z(-degrees)) == pytest.approx((0, 0, degrees))  # clockwise as the viewer sees it


def test_yaw_does_not_depend_on_roll() -> None:
    yaw, pitch, _ = head_angles(about_y(30) @ about_z(20))
    assert (yaw, pitch) == pytest.approx((30, 0))


def test_pixel_facts_of_a_known_picture() -> None:
    tile = np.zeros((224, 224, 3), np.uint8)
    tile[:, 112:] = 255
    facts = measure(tile, 50.0)
    assert (facts.brightness, facts.contrast) == pytest.approx((0.5, 0.5))
    assert facts.sharpness == pytest.approx(2 * 255**2 / 224, rel=0.01)
    assert (facts.width_px, facts.yaw, facts.smile) == (50.0, None, None)


def test_blurring_lowers_sharpness(person: RgbImage) -> None:
    tile = np.asarray(cv2.resize(person[52:202, 149:299], (224, 224)), np.uint8)
    values = [measure(np.asarray(cv2.GaussianBlur(tile, (0, 0), s), np.uint8), 1).sharpness for s in (0.5, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 5 * values[-1]


def test_words_of_an_ordinary_face() -> None:
    assert describe_facts(FACTS) == ["facing the camera", "eyes open", "sharp", "212 px"]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"yaw": -18.2}, "turned left 18°"),
        ({"yaw": 18.2}, "turned right 18°"),
        ({"pitch": 14.0}, "head up 14°"),
        ({"pitch": -14.0}, "head down 14°"),
        ({"roll": 21.0}, "leaning right 21°"),
        ({"roll": -21.0}, "leaning left 21°"),
        ({"smile": 0.8}, "smiling"),
        ({"smile": 0.3}, "smiling a little"),
        ({"mouth_open": 0.5}, "mouth open"),
        ({"eyes_open": 0.55}, "eyes half open or lowered"),
        ({"eyes_open": 0.2}, "eyes closed or lowered"),
        ({"sharpness": 30.0}, "soft"),
        ({"sharpness": 3.0}, "blurred"),
        ({"brightness": 0.1}, "underexposed"),
        ({"brightness": 0.7}, "overexposed"),
        ({"contrast": 0.05}, "little contrast"),
        ({"yaw": None}, "pose not measurable"),
    ],
)
def test_each_word_has_its_fact(change: dict[str, float | None], word: str) -> None:
    assert word not in describe_facts(FACTS)
    words = describe_facts(replace(FACTS, **change))
    assert word in words
    assert words[-1] == "212 px"


def test_what_was_not_measured_is_not_claimed() -> None:
    bare = replace(FACTS, yaw=None, pitch=None, roll=None, smile=None, mouth_open=None, eyes_open=None)
    assert describe_facts(bare) == ["pose not measurable", "sharp", "212 px"]


def test_the_expression_of_a_tiny_face_is_not_put_into_words() -> None:
    smiling = replace(FACTS, smile=0.9)
    assert "smiling" in describe_facts(replace(smiling, width_px=28.0))
    assert describe_facts(replace(smiling, width_px=27.0)) == ["facing the camera", "sharp", "27 px"]
