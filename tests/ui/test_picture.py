"""The picture pane: boxes and clicks are right at any size, and a large photo is scaled once."""

from __future__ import annotations

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtTest import QTest

from facellm.core.faces import WHOLE, Face, FaceBox, Facts
from facellm.ui import pixels
from facellm.ui.panes.picture import PictureView
from facellm.ui.theme import LIGHT


def face(label: str, x: float, y: float, side: float) -> Face:
    return Face(label, FaceBox(x, y, side, side, 0.9), Facts(side, 0.5, 0.2, 100), np.zeros((6, 2), np.float32))


FACES = (face("A", 100, 100, 200), face("B", 900, 300, 100), face("C", 950, 350, 100))


@pytest.fixture
def view(qtbot, theme) -> PictureView:
    view = PictureView(theme)
    qtbot.addWidget(view)
    view.resize(632, 432)
    view.show()
    pixels_ = np.full((800, 1200, 3), (10, 200, 30), np.uint8)
    view.show_photo(pixels.shown_image(pixels_), 1200, FACES, "photo.jpg")
    return view


def test_the_photo_is_fitted_and_centred(view: PictureView) -> None:
    area = view.picture_rect()
    assert (area.width(), area.height()) == (600, 400)
    assert area.center() == QPointF(316, 216)


@pytest.mark.parametrize("size", [(632, 432), (1232, 432), (400, 1000)])
def test_a_click_chooses_the_face_under_it_at_any_size(view: PictureView, qtbot, size: tuple[int, int]) -> None:
    view.resize(*size)
    clicked = []
    view.face_clicked.connect(clicked.append)
    for one in FACES[:2]:
        corner = view.face_rect(one).topLeft() + QPointF(2, 2)
        QTest.mouseClick(view, Qt.MouseButton.LeftButton, pos=corner.toPoint())
    QTest.mouseClick(view, Qt.MouseButton.LeftButton, pos=view.picture_rect().bottomLeft().toPoint() + QPoint(3, -3))
    assert clicked == ["A", "B"]


def test_of_overlapping_boxes_the_nearer_one_is_taken(view: PictureView) -> None:
    b, c = (view.face_rect(one).center() for one in FACES[1:])
    towards = (b + c) / 2 + (c - b) * 0.1
    assert view.face_at(towards) == "C"
    assert view.face_at((b + c) / 2 - (c - b) * 0.1) == "B"


def test_the_chosen_box_is_drawn_in_the_accent_colour(view: PictureView) -> None:
    def colour_on_the_line(one: Face) -> str:
        rect = view.face_rect(one)
        return view.grab().toImage().pixelColor(round(rect.center().x()), round(rect.bottom())).name()

    assert colour_on_the_line(FACES[0]) != LIGHT.accent
    view.choose("A")
    assert colour_on_the_line(FACES[0]) == LIGHT.accent
    view.choose(WHOLE)
    assert colour_on_the_line(FACES[0]) != LIGHT.accent


def test_a_large_photo_is_scaled_once_for_a_size(view: PictureView, monkeypatch: pytest.MonkeyPatch) -> None:
    large = np.zeros((4000, 6000, 3), np.uint8)
    shown = pixels.shown_image(large)
    assert max(shown.width(), shown.height()) == pixels.SHOWN_SIDE
    view.show_photo(shown, 6000, (face("A", 3000, 2000, 500),), "large.jpg")
    view.repaint()
    scaled = view._scaled
    for label in ("A", None, "A"):
        view.choose(label)
        view.repaint()
    assert view._scaled is scaled
    assert view.face_rect(view._faces[0]).x() == pytest.approx(316, abs=1)


def test_the_array_outlives_its_owner() -> None:
    def image() -> pixels.HeldImage:
        array = np.arange(300 * 400 * 3, dtype=np.uint32).astype(np.uint8).reshape(300, 400, 3)
        return pixels.HeldImage(array)

    held = image()
    for _ in range(20):
        np.zeros((300, 400, 3), np.uint8)
    assert held.pixelColor(1, 0).getRgb()[:3] == (3, 4, 5)


def test_a_face_at_the_edge_still_gives_a_square_picture() -> None:
    shown = pixels.shown_image(np.zeros((300, 500, 3), np.uint8))
    for box in (FaceBox(-20, -20, 90, 90, 1), FaceBox(450, 250, 80, 80, 1), FaceBox(0, 0, 500, 300, 1)):
        picture = pixels.face_image(shown, box, 500, 56)
        assert (picture.width(), picture.height()) == (56, 56)


def test_it_paints_before_there_is_a_photo(qtbot, theme) -> None:
    view = PictureView(theme)
    qtbot.addWidget(view)
    view.show()
    assert view.grab().toImage().pixelColor(5, 5).name() == LIGHT.stage
    assert view.face_at(QPointF(10, 10)) is None
