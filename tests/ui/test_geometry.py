"""Every size of the window: on the screen from the first moment, and with all that is needed in sight."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, QRect, QSettings, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget

from facellm.ui.app import make_window
from facellm.ui.backend import LocalBackend
from facellm.ui.panes.keys import KeysCard
from facellm.ui.panes.strip import Strip
from facellm.ui.theme import LIGHT, Theme
from facellm.ui.window import MainWindow
from tests.ui.conftest import Make
from tests.ui.driving import open_photo

LINE = "IMG_20250101_123456_of_the_whole_family.jpg · 4032 × 3024 · 6 faces"


def _in(window: MainWindow, part: QWidget) -> QRect:
    return QRect(part.mapTo(window, QPoint(0, 0)), part.size())


def _resize(qtbot, window: MainWindow, width: int, height: int) -> None:
    window.resize(width, height)
    for _ in range(5):  # a layout may ask for another one, inside and out
        QApplication.processEvents()
    qtbot.wait(30)


def test_at_first_it_is_no_larger_than_the_screen(
    qtbot, no_model: LocalBackend, theme: Theme, settings: QSettings
) -> None:
    window = make_window(no_model, theme, settings)
    qtbot.addWidget(window)
    room = window.screen().availableSize()
    assert window.width() < room.width() == 800  # the screen of Qt's offscreen platform
    assert window.height() < room.height()
    window.close()


def test_narrow_the_conversation_goes_below_and_nothing_is_cut(qtbot, window: MainWindow, two_faces: Path) -> None:
    open_photo(qtbot, window, two_faces)
    stage, ask = window.stage, window.ask
    assert _in(window, ask).left() > _in(window, stage).left() + 300
    _resize(qtbot, window, 860, 820)
    assert _in(window, ask).top() > _in(window, stage).bottom()
    for chip in ask.chips:
        assert window.rect().contains(_in(window, chip))
    assert max(_in(window, chip).bottom() for chip in ask.chips) < _in(window, ask.field).top()


def test_on_the_smallest_screen_under_two_notices_it_can_still_be_asked(
    qtbot, bare: MainWindow, two_faces: Path
) -> None:
    open_photo(qtbot, bare, two_faces)
    window = bare
    window.ask.show()  # as with a model, whose own news would take the notice away
    window._talk.setCurrentWidget(window.conversation)
    window.notice.show_text("This photo cannot be read.", "Check the path and the drive.")
    window.engine_notice.show_text("The engine stopped.", "Restart it.")
    _resize(qtbot, window, 640, 480)
    assert (window.width(), window.height()) == (640, 480)
    needed = window.centralWidget().minimumSizeHint()
    assert needed.width() <= 640
    assert needed.height() <= 480
    parts = (window.ask._box, window.ask.button, window.filmstrip, window.notice.button, window.engine_notice.button)
    for part in (*parts, window.strip.open, window.strip.keys):
        assert window.rect().contains(_in(window, part))
    assert _in(window, window.ask.chips[0]).bottom() < _in(window, window.ask._box).top()
    assert window.conversation.height() >= 40
    assert window.stage.picture.height() >= 72


def test_in_a_low_window_the_chips_share_a_row_that_the_keyboard_moves(
    qtbot, window: MainWindow, two_faces: Path
) -> None:
    open_photo(qtbot, window, two_faces)
    first, last = window.ask.chips[0], window.ask.chips[-1]
    assert len({_in(window, chip).top() for chip in window.ask.chips}) > 1
    _resize(qtbot, window, 1280, 640)
    assert len({_in(window, chip).top() for chip in window.ask.chips}) == 1
    assert last.visibleRegion().isEmpty()
    first.setFocus(Qt.FocusReason.TabFocusReason)
    for _ in window.ask.chips[1:]:
        QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
    assert last.hasFocus()
    assert last.visibleRegion().boundingRect() == last.rect()
    _resize(qtbot, window, 1280, 820)
    assert len({_in(window, chip).top() for chip in window.ask.chips}) > 1
    assert last.visibleRegion().boundingRect() == last.rect()


def test_unfolded_what_the_model_received_leaves_room_for_the_conversation(
    qtbot, window: MainWindow, two_faces: Path
) -> None:
    open_photo(qtbot, window, two_faces)
    window.facts.fold.setChecked(True)
    qtbot.waitUntil(lambda: window.facts.height() > 200)
    assert window.facts._actual.pixmap().deviceIndependentSize().width() == 160
    crop = window.facts.crop
    assert crop is not None and crop.width() == 224  # all of it is saved
    for height in (820, 720, 600):
        _resize(qtbot, window, 1280, height)
        assert window.facts.height() <= 0.45 * window._split.height() + 1
        assert window.conversation.height() >= 150
    _resize(qtbot, window, 700, 640)
    assert window.facts.height() == window._split.widget(1).height()  # beside the conversation it takes nothing off it


@pytest.mark.parametrize("size", [(1280, 820), (700, 640), (640, 480)])
def test_without_a_model_the_way_to_one_is_in_sight(qtbot, bare: MainWindow, size: tuple[int, int]) -> None:
    _resize(qtbot, bare, *size)
    button = bare.setup.build_button
    assert button.visibleRegion().boundingRect() == button.rect()
    assert not bare.ask.isVisible()
    assert _in(bare, bare.stage.welcome.open).bottom() < _in(bare, bare.stage).bottom() - 17  # the dashed frame


def test_where_the_strip_is_narrow_the_number_of_faces_stays(qtbot, bare: MainWindow) -> None:
    strip: Strip = bare.strip
    strip.show_photo(LINE)
    strip._model.set_full("FaceLLM-nano (embedded) · CPU, 16 threads")
    _resize(qtbot, bare, 1280, 820)
    assert strip._photo.text() == LINE
    for width in (899, 700):
        _resize(qtbot, bare, width, 640)
        assert strip._photo.text().startswith("IMG_")
        assert strip._photo.text().endswith(".jpg · 6 faces")  # the size went before the name
        assert strip._model.text().startswith("FaceLLM-nano")
    assert "…" in strip._photo.text()
    assert strip._photo.toolTip() == LINE


def test_the_split_is_62_to_38_and_remembered(
    qtbot, window_of: Make, no_model: LocalBackend, settings: QSettings
) -> None:
    first = window_of(no_model)
    left, right = first._split.sizes()
    assert left / (left + right) == pytest.approx(0.62, abs=0.02)
    first._split.setSizes([700, 579])
    first.close()
    assert set(settings.allKeys()) == {"window/geometry", "split/side"}


# ---------------------------------------------------------------- the card of keys


def _open_card(window: MainWindow) -> KeysCard:
    QTest.keyClick(window, Qt.Key.Key_F1)
    card = QApplication.activePopupWidget()
    assert isinstance(card, KeysCard)
    return card


def test_the_card_of_keys_has_a_ground(bare: MainWindow) -> None:
    picture = _open_card(bare).grab().toImage()
    ground = picture.pixelColor(picture.width() // 2, 8)
    assert (ground.name(), ground.alpha()) == (LIGHT.surface, 255)
    assert picture.pixelColor(0, 0).alpha() == 0  # outside the round corner
    QTest.keyClick(QApplication.activePopupWidget(), Qt.Key.Key_Escape)


@pytest.mark.parametrize("corner", [QPoint(-900, -600), QPoint(700, 700)])
def test_the_card_of_keys_is_on_the_screen_wherever_the_window_is(bare: MainWindow, corner: QPoint) -> None:
    bare.move(corner)
    card = _open_card(bare)
    assert bare.screen().availableGeometry().contains(card.geometry())
    QTest.keyClick(card, Qt.Key.Key_Escape)


def test_a_click_in_the_card_of_keys_closes_it(qtbot, bare: MainWindow) -> None:
    card = _open_card(bare)
    with qtbot.waitSignal(card.destroyed, timeout=1000):
        QTest.mouseClick(card, Qt.MouseButton.LeftButton, pos=QPoint(60, 60))
    assert QApplication.activePopupWidget() is None
    assert not bare.findChildren(KeysCard)
    assert bare.isVisible()
