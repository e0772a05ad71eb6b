"""A face that was drawn can be taken back, by the cross on it and by Delete; a slip of the hand draws none."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtTest import QTest

from facellm.core.faces import WHOLE, FaceBox
from facellm.ui.backend import LocalBackend
from facellm.ui.presenters.conversation import Status
from facellm.ui.presenters.drawing import BoxDrawing
from facellm.ui.presenters.studio import Studio
from facellm.ui.tasks import InlineRunner
from facellm.ui.window import MainWindow
from tests.ui.conftest import PHOTO_MS
from tests.ui.driving import open_photo

LEFT = Qt.MouseButton.LeftButton
LOW, HIGH = FaceBox(30, 250, 120, 150, 1.0), FaceBox(380, 60, 100, 120, 1.0)


# ---------------------------------------------------------------- a slip


@pytest.mark.parametrize(
    ("asked_for", "size", "drawn"),
    [(False, (25, 10), 0), (False, (10, 60), 0), (False, (24, 24), 1), (True, (12, 12), 1), (True, (3, 3), 0)],
)
def test_a_box_that_nobody_asked_for_must_be_large(qapp, asked_for: bool, size: tuple[int, int], drawn: int) -> None:
    drawing, boxes = BoxDrawing(), list[FaceBox]()
    drawing.drawn.connect(boxes.append)
    drawing.set_room(600, 400)
    if asked_for:
        drawing.begin()
    drawing.press(QPointF(100, 100))
    drawing.drag(QPointF(100, 100) + QPointF(*size) * 2, 2)  # the screen's pixels are two of the photo's long
    drawing.release()
    assert len(boxes) == drawn


def test_a_slip_of_the_mouse_makes_no_face(qtbot, bare: MainWindow, astronaut: Path) -> None:
    open_photo(qtbot, bare, astronaut)
    view = bare.stage.picture
    start = (view.picture_rect().topLeft() + QPointF(20, 20)).toPoint()
    QTest.mousePress(view, LEFT, pos=start)
    for way in (QPoint(6, 6), QPoint(12, 12), QPoint(22, 22)):
        QTest.mouseMove(view, start + way)
    assert not view.drawing.active
    QTest.mouseRelease(view, LEFT, pos=start + QPoint(22, 22))
    qtbot.wait(50)
    assert bare.studio.photo.labels == ("A", WHOLE)


# ---------------------------------------------------------------- presenter


@pytest.fixture
def studio(no_model: LocalBackend, astronaut: Path) -> Studio:
    studio = Studio(no_model, InlineRunner(), InlineRunner())
    studio.photo.open_file(astronaut)
    return studio


def test_what_was_drawn_can_be_removed_and_the_others_stay(studio: Studio) -> None:
    photo = studio.photo
    for box in (LOW, HIGH):
        photo.draw(box)
    assert photo.opened is not None
    assert photo.opened.drawn == {"B", "C"}
    photo.choose("A")
    assert photo.remove("B")
    assert photo.labels == ("A", "C", WHOLE)
    assert photo.chosen == "A"
    assert photo.tile is not None
    photo.choose("C")
    assert photo.remove("C")
    assert photo.labels == ("A", WHOLE)
    assert photo.chosen == "A"
    photo.draw(HIGH)
    assert photo.chosen == "B"
    assert photo.face is not None
    assert photo.face.box.x == HIGH.x


def test_what_was_found_cannot(studio: Studio) -> None:
    assert not studio.photo.remove("A")
    assert not studio.photo.remove(WHOLE)
    assert not studio.photo.remove("")
    assert studio.photo.labels == ("A", WHOLE)


def test_without_a_face_left_nothing_is_chosen(no_model: LocalBackend, scenery: Path) -> None:
    studio = Studio(no_model, InlineRunner(), InlineRunner())
    assert not studio.photo.remove("A")  # nothing is open
    studio.photo.open_file(scenery)
    studio.photo.draw(LOW)
    assert studio.photo.remove("A")
    assert studio.photo.chosen is None
    assert "no face" in studio.photo_line()


def test_a_removed_face_takes_its_conversation_with_it(backend: LocalBackend, astronaut: Path) -> None:
    studio = Studio(backend, InlineRunner(), InlineRunner())
    studio.photo.open_file(astronaut)
    opened = studio.photo.opened
    assert opened is not None
    for box in (LOW, HIGH):
        studio.photo.draw(box)
    opened.session = None  # as when all this happened before there was a model
    studio.photo.remove("B")
    studio.ask("Who is this?")  # answered without the model
    assert opened.session is not None
    assert opened.session.labels == ("A", "C", WHOLE)
    assert [exchange.status for exchange in studio.exchanges()] == [Status.REFUSED]
    studio.photo.remove("C")
    assert opened.session.labels == ("A", WHOLE)
    studio.photo.draw(LOW)
    studio.photo.draw(HIGH)
    assert studio.photo.chosen == "C"
    assert studio.exchanges() == ()


# ---------------------------------------------------------------- window


@pytest.fixture
def drawn(qtbot, bare: MainWindow, astronaut: Path) -> MainWindow:
    """The astronaut's found face A, and B in the lower left corner, chosen."""
    open_photo(qtbot, bare, astronaut)
    with qtbot.waitSignal(bare.studio.photo.faces_changed, timeout=PHOTO_MS):
        bare.studio.photo.draw(LOW)
    qtbot.waitUntil(lambda: bare.facts.crop is not None, timeout=PHOTO_MS)
    return bare


def labels(window: MainWindow) -> list[str]:
    return [button.label for button in window.filmstrip.buttons]


@pytest.mark.parametrize("key", [Qt.Key.Key_Delete, Qt.Key.Key_Backspace])
def test_delete_removes_the_chosen_face_if_it_was_drawn(qtbot, drawn: MainWindow, key: Qt.Key) -> None:
    with qtbot.waitSignal(drawn.studio.photo.removed, timeout=PHOTO_MS):
        QTest.keyClick(drawn.stage.picture, key)
    assert labels(drawn) == ["A", WHOLE]
    assert drawn.filmstrip.buttons[0].isChecked()
    QTest.keyClick(drawn.stage.picture, key)
    qtbot.wait(50)
    assert labels(drawn) == ["A", WHOLE]
    qtbot.waitUntil(lambda: drawn.facts.crop is not None, timeout=PHOTO_MS)


def test_the_cross_removes_and_is_there_for_drawn_faces_only(qtbot, drawn: MainWindow) -> None:
    view, opened = drawn.stage.picture, drawn.studio.photo.opened
    assert opened is not None
    found, by_hand = (view.face_rect(face).topRight() for face in opened.faces)
    QTest.mouseMove(view, found.toPoint())
    assert view.toolTip() == ""
    QTest.mouseMove(view, by_hand.toPoint())
    assert "Face B" in view.toolTip()
    assert view.cursor().shape() is Qt.CursorShape.PointingHandCursor
    with qtbot.waitSignal(drawn.studio.photo.removed, timeout=PHOTO_MS):
        QTest.mouseClick(view, LEFT, pos=(by_hand + QPointF(4, -4)).toPoint())
    assert labels(drawn) == ["A", WHOLE]
    assert not view.drawing.active
    qtbot.waitUntil(lambda: drawn.facts.crop is not None, timeout=PHOTO_MS)


def test_the_cross_of_another_face_shows_under_the_mouse(qtbot, drawn: MainWindow) -> None:
    view, opened = drawn.stage.picture, drawn.studio.photo.opened
    assert opened is not None
    drawn.studio.photo.choose("A")
    rect = view.face_rect(opened.faces[1])
    spot = rect.topRight() + QPointF(5, -5)
    before = view.grab().toImage().pixelColor((rect.topRight() + QPointF(0, -7)).toPoint())
    assert view.face_at(spot) is None
    QTest.mouseMove(view, rect.center().toPoint())
    assert view.face_at(spot) == "B"
    assert view.grab().toImage().pixelColor((rect.topRight() + QPointF(0, -7)).toPoint()) != before
    qtbot.waitUntil(lambda: drawn.facts.crop is not None, timeout=PHOTO_MS)
