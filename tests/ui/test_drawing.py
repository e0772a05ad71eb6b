"""A box drawn by hand round a face that was missed: with the mouse, with keys alone, and what comes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, QPointF, QRectF, Qt
from PySide6.QtTest import QTest

from facellm.core.faces import WHOLE, FaceBox
from facellm.ui.backend import LocalBackend
from facellm.ui.panes.picture import PictureView
from facellm.ui.presenters.conversation import Status
from facellm.ui.presenters.drawing import BoxDrawing
from facellm.ui.presenters.studio import Studio
from facellm.ui.tasks import InlineRunner
from facellm.ui.theme import LIGHT
from facellm.ui.window import MainWindow
from tests.ui.conftest import PHOTO_MS
from tests.ui.driving import open_photo

LEFT, SHIFT = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ShiftModifier
BOX = FaceBox(30, 250, 120, 150, 1.0)


# ---------------------------------------------------------------- without a widget


@pytest.fixture
def drawing(qapp) -> BoxDrawing:
    drawing = BoxDrawing()
    drawing.set_room(600, 400)
    return drawing


def test_a_drag_any_way_is_a_box_inside_the_photo(drawing: BoxDrawing) -> None:
    drawn: list[FaceBox] = []
    drawing.drawn.connect(drawn.append)
    drawing.press(QPointF(500, 300))
    assert not drawing.active
    assert drawing.drag(QPointF(700, 100), 1)
    assert drawing.active
    drawing.release()
    assert drawn == [FaceBox(500, 100, 100, 200, 1.0)]
    assert drawing.rect == QRectF(500, 100, 100, 200)  # in sight until its face is measured
    drawing.end()
    assert not drawing.active


def test_a_short_drag_or_one_beside_the_photo_is_a_click(drawing: BoxDrawing) -> None:
    drawn: list[FaceBox] = []
    drawing.drawn.connect(drawn.append)
    for start, stop in ((QPointF(100, 100), QPointF(103, 104)), (QPointF(-50, 10), QPointF(-5, 90))):
        drawing.press(start)
        drawing.drag(QPointF(300, 300), 1)
        drawing.drag(stop, 1)
        drawing.release()
        assert not drawing.active
    assert not drawing.drag(QPointF(300, 300), 1)  # the button is up
    assert drawn == []


def test_keys_move_and_resize_within_the_photo(drawing: BoxDrawing) -> None:
    assert not drawing.key(Qt.Key.Key_Return, False, 10)  # not asked for
    drawing.begin()
    assert not drawing.key(Qt.Key.Key_X, False, 10)
    drawing.key(Qt.Key.Key_Return, False, 10)
    assert drawing.rect == QRectF(200, 100, 200, 200)
    for key, shift, expected in (
        (Qt.Key.Key_Right, False, QRectF(210, 100, 200, 200)),
        (Qt.Key.Key_Up, False, QRectF(210, 90, 200, 200)),
        (Qt.Key.Key_Left, True, QRectF(210, 90, 190, 200)),
        (Qt.Key.Key_Down, True, QRectF(210, 90, 190, 210)),
    ):
        assert drawing.key(key, shift, 10)
        assert drawing.rect == expected
    for _ in range(100):
        drawing.key(Qt.Key.Key_Right, False, 10)
        drawing.key(Qt.Key.Key_Down, True, 10)
    assert drawing.rect == QRectF(410, 90, 190, 310)
    for _ in range(100):
        drawing.key(Qt.Key.Key_Left, True, 10)
    assert drawing.rect.width() == 10


def test_while_a_face_is_measured_nothing_else_is_drawn(drawing: BoxDrawing) -> None:
    drawn: list[FaceBox] = []
    drawing.drawn.connect(drawn.append)
    drawing.begin()
    for _ in range(3):
        drawing.key(Qt.Key.Key_Enter, False, 10)
    drawing.press(QPointF(10, 10))
    drawing.drag(QPointF(90, 90), 1)
    drawing.release()
    assert drawn == [FaceBox(200, 100, 200, 200, 1.0)]
    assert drawing.hint == ""


def test_without_a_photo_there_is_nothing_to_draw_on(qapp) -> None:
    drawing = BoxDrawing()
    drawing.begin()
    assert not drawing.active


# ---------------------------------------------------------------- presenter


def test_a_drawn_face_is_added_chosen_and_has_its_tile(no_model: LocalBackend, astronaut: Path) -> None:
    studio = Studio(no_model, InlineRunner(), InlineRunner())
    studio.photo.draw(BOX)  # nothing is open
    studio.photo.open_file(astronaut)
    first, heard = studio.photo.face, []
    studio.photo.faces_changed.connect(lambda: heard.append(studio.photo.labels))
    studio.photo.draw(BOX)
    assert heard == [("A", "B", WHOLE)]
    assert studio.photo.chosen == "B"
    assert studio.photo.tile is not None
    assert studio.photo.tile.shape == (224, 224, 3)
    assert studio.photo.opened is not None
    assert studio.photo.opened.faces[0] is first
    assert "2 faces" in studio.photo_line()
    assert "120 px" in studio.fact_line().replace("\N{NO-BREAK SPACE}", " ")


def test_a_box_that_is_no_face_is_explained_and_changes_nothing(no_model: LocalBackend, astronaut: Path) -> None:
    studio = Studio(no_model, InlineRunner(), InlineRunner())
    studio.photo.open_file(astronaut)
    said = []
    studio.photo.failed.connect(lambda message, hint: said.append((message, hint)))
    studio.photo.draw(FaceBox(10, 10, 5, 40, 1.0))
    ((message, hint),) = said
    assert "5 × 40 px" in message
    assert hint
    assert studio.photo.labels == ("A", WHOLE)
    assert studio.photo.chosen == "A"


def test_a_drawn_face_can_be_asked_about_whenever_the_session_was_made(backend: LocalBackend, astronaut: Path) -> None:
    studio = Studio(backend, InlineRunner(), InlineRunner())
    studio.photo.open_file(astronaut)
    opened = studio.photo.opened
    assert opened is not None
    assert opened.session is not None
    studio.photo.draw(BOX)
    assert opened.session.labels == ("A", "B", WHOLE)
    assert studio.photo.tile is opened.session.tile_of("B")
    opened.session = None  # as when the photo was opened and drawn on before there was a model
    studio.ask("Is there a hat?")
    (exchange,) = studio.exchanges()
    assert exchange.label == "B"
    assert exchange.status in (Status.DONE, Status.LENGTH)
    assert opened.session is not None
    assert opened.session.labels == ("A", "B", WHOLE)


# ---------------------------------------------------------------- window


def test_the_mouse_draws_a_box_beside_the_face_that_was_found(qtbot, bare: MainWindow, astronaut: Path) -> None:
    open_photo(qtbot, bare, astronaut)
    view = bare.stage.picture
    before = bare.studio.photo.face
    with qtbot.waitSignal(bare.studio.photo.faces_changed, timeout=PHOTO_MS):
        _drag(view, BOX)
        assert view.drawing.active
        assert view.cursor().shape() is Qt.CursorShape.CrossCursor
        rect = view.shown_rect(QRectF(BOX.x, BOX.y, BOX.w, BOX.h))
        line = view.grab().toImage().pixelColor(round(rect.center().x()), round(rect.bottom()))
        assert line.name() == LIGHT.accent
        QTest.mouseRelease(view, LEFT, pos=rect.bottomRight().toPoint())
    opened = bare.studio.photo.opened
    assert opened is not None
    assert opened.faces[0] is before
    box = opened.faces[1].box
    assert (box.x, box.y, box.w, box.h) == pytest.approx((BOX.x, BOX.y, BOX.w, BOX.h), abs=2)
    assert bare.studio.photo.chosen == "B"
    assert [button.label for button in bare.filmstrip.buttons] == ["A", "B", WHOLE]
    assert [button.isChecked() for button in bare.filmstrip.buttons] == [False, True, False]
    assert "2 faces found" in view.accessibleDescription()
    assert not view.drawing.active
    assert view.cursor().shape() is Qt.CursorShape.ArrowCursor
    qtbot.waitUntil(lambda: bare.facts.crop is not None, timeout=PHOTO_MS)


def test_a_drag_that_starts_on_a_face_chooses_it_and_draws_nothing(qtbot, bare: MainWindow, two_faces: Path) -> None:
    open_photo(qtbot, bare, two_faces)
    view, opened = bare.stage.picture, bare.studio.photo.opened
    assert opened is not None
    start = view.face_rect(opened.faces[1]).center().toPoint()
    QTest.mousePress(view, LEFT, pos=start)
    QTest.mouseMove(view, start + QPoint(0, 90))
    assert not view.drawing.active
    QTest.mouseRelease(view, LEFT, pos=start + QPoint(0, 90))
    assert bare.studio.photo.chosen == "B"
    assert len(opened.faces) == 2


def test_escape_drops_the_box_while_the_button_is_down(qtbot, bare: MainWindow, scenery: Path) -> None:
    open_photo(qtbot, bare, scenery)
    view = bare.stage.picture
    corner = _drag(view, FaceBox(100, 100, 100, 100, 1.0))
    assert not bare.stage.card.isVisible()
    QTest.keyClick(view, Qt.Key.Key_Escape)
    assert not view.drawing.active
    assert bare.stage.card.isVisible()
    QTest.mouseMove(view, corner + QPoint(40, 40))
    QTest.mouseRelease(view, LEFT, pos=corner + QPoint(40, 40))
    assert not view.drawing.active
    assert bare.studio.photo.labels == (WHOLE,)


def test_keys_alone_draw_a_box_where_no_face_was_found(qtbot, bare: MainWindow, scenery: Path) -> None:
    open_photo(qtbot, bare, scenery)
    stage = bare.stage
    QTest.keyClick(bare, Qt.Key.Key_B)
    assert stage.picture.hasFocus()
    assert stage.picture.cursor().shape() is Qt.CursorShape.CrossCursor
    assert stage.hint.isVisible()
    assert "Enter" in stage.hint.text()
    assert not stage.card.isVisible()
    QTest.keyClick(stage.picture, Qt.Key.Key_Return)
    assert stage.picture.drawing.rect == QRectF(200, 100, 200, 200)  # half of the 400 px that the photo is high
    assert "Arrows" in stage.hint.text()
    for key in (Qt.Key.Key_Left, Qt.Key.Key_Left, Qt.Key.Key_Down):
        QTest.keyClick(stage.picture, key)
    QTest.keyClick(stage.picture, Qt.Key.Key_Right, SHIFT)
    with qtbot.waitSignal(bare.studio.photo.faces_changed, timeout=PHOTO_MS):
        QTest.keyClick(stage.picture, Qt.Key.Key_Return)
        assert not stage.card.isVisible()
    step = 8 * 600 / stage.picture.picture_rect().width()
    (face,) = bare.studio.photo.opened.faces  # type: ignore[union-attr]
    assert (face.box.x, face.box.y) == pytest.approx((200 - 2 * step, 100 + step))
    assert (face.box.w, face.box.h) == pytest.approx((200 + step, 200))
    assert bare.studio.photo.chosen == "A"
    assert [button.label for button in bare.filmstrip.buttons] == ["A", WHOLE]
    assert bare.filmstrip.buttons[0].isChecked()
    assert not stage.hint.isVisible()
    qtbot.waitUntil(lambda: bare.facts.crop is not None, timeout=PHOTO_MS)


def test_the_card_of_a_photo_without_a_face_offers_to_draw(qtbot, bare: MainWindow, scenery: Path) -> None:
    open_photo(qtbot, bare, scenery)
    button = bare.stage.card.other
    assert button.isVisible()
    assert button.accessibleName() == "Draw a box"
    QTest.mouseClick(button, LEFT)
    assert bare.stage.picture.drawing.active
    assert not bare.stage.card.isVisible()
    QTest.keyClick(bare.stage.picture, Qt.Key.Key_Escape)
    assert bare.stage.card.isVisible()
    assert not bare.stage.hint.isVisible()


def test_b_is_face_b_where_there_is_one_and_then_control_b_draws(qtbot, bare: MainWindow, two_faces: Path) -> None:
    open_photo(qtbot, bare, two_faces)
    QTest.keyClick(bare, Qt.Key.Key_B)
    assert bare.studio.photo.chosen == "B"
    assert not bare.stage.picture.drawing.active
    QTest.keyClick(bare, Qt.Key.Key_B)  # chosen already
    assert not bare.stage.picture.drawing.active
    QTest.keyClick(bare, Qt.Key.Key_B, Qt.KeyboardModifier.ControlModifier)
    assert bare.stage.picture.drawing.active


def test_a_box_too_small_is_explained_and_the_card_comes_back(qtbot, bare: MainWindow, scenery: Path) -> None:
    open_photo(qtbot, bare, scenery)
    view = bare.stage.picture
    bare.intents.draw_box()
    corner = _drag(view, FaceBox(100, 100, 100, 8, 1.0))
    with qtbot.waitSignal(bare.studio.photo.failed, timeout=PHOTO_MS):
        QTest.mouseRelease(view, LEFT, pos=corner)
    assert "a face needs" in bare.notice.text
    assert not view.drawing.active
    assert bare.stage.card.isVisible()


def test_another_photo_drops_what_was_being_drawn(qtbot, bare: MainWindow, scenery: Path, two_faces: Path) -> None:
    open_photo(qtbot, bare, scenery)
    bare.intents.draw_box()
    QTest.keyClick(bare.stage.picture, Qt.Key.Key_Return)
    open_photo(qtbot, bare, two_faces)
    assert not bare.stage.picture.drawing.active
    assert not bare.stage.hint.isVisible()


@pytest.mark.parametrize("width", [900, 560, 480, 320])
def test_the_card_fits_over_a_narrow_picture(qtbot, bare: MainWindow, scenery: Path, width: int) -> None:
    open_photo(qtbot, bare, scenery)
    stage = bare.stage
    stage.resize(width, 500)
    assert stage.rect().contains(stage.card.geometry())
    bare.intents.draw_box()
    assert stage.rect().contains(stage.hint.geometry())
    assert stage.hint.height() >= stage.hint.heightForWidth(stage.hint.width())


def _drag(view: PictureView, box: FaceBox) -> QPoint:
    """Press on the box's upper left corner and drag to the lower right one, where the button stays down."""
    rect = view.shown_rect(QRectF(box.x, box.y, box.w, box.h))
    start, stop = rect.topLeft().toPoint(), rect.bottomRight().toPoint()
    QTest.mousePress(view, LEFT, pos=start)
    QTest.mouseMove(view, (start + stop) / 2)
    QTest.mouseMove(view, stop)
    return stop
