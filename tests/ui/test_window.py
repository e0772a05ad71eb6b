"""The window itself: what each state shows, keys, drops, focus, names; with the real parts behind it."""

from __future__ import annotations

from pathlib import Path

import psutil
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication, QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QApplication, QLabel, QPlainTextEdit, QProgressBar, QTextBrowser, QWidget

from facellm.core.aspects import ASPECTS
from facellm.core.faces import WHOLE
from facellm.ui import reading
from facellm.ui.panes.keys import KEYS, KeysCard
from facellm.ui.presenters.conversation import Status
from facellm.ui.presenters.engine import Phase
from facellm.ui.window import MainWindow
from tests.ui.conftest import ANSWER_MS, PHOTO_MS
from tests.ui.driving import open_photo, wait_for_answers

# ---------------------------------------------------------------- states


def test_empty_it_invites_and_nothing_can_be_asked(bare: MainWindow) -> None:
    assert bare.stage.welcome.isVisible()
    assert bare.stage.welcome.open.isVisible()
    assert not bare.filmstrip.isVisible()
    assert not bare.facts.isVisible()
    assert not bare.ask.field.isEnabled()
    assert not bare.ask.button.isEnabled()


def test_without_a_model_it_offers_to_build_one(bare: MainWindow) -> None:
    assert bare.setup.isVisible()
    assert bare.setup.build_button.isVisible()
    assert not bare.setup.cancel_button.isVisible()
    assert "model" in bare.ask.field.placeholderText()


def test_a_photo_shows_its_faces(qtbot, bare: MainWindow, two_faces: Path) -> None:
    open_photo(qtbot, bare, two_faces)
    assert bare.stage.picture.isVisible()
    assert [button.label for button in bare.filmstrip.buttons] == ["A", "B", WHOLE]
    assert [button.isChecked() for button in bare.filmstrip.buttons] == [True, False, False]
    assert bare.facts.isVisible()
    assert "2 faces found" in bare.stage.picture.accessibleDescription()


def test_clicks_on_the_picture_and_in_the_filmstrip_choose(qtbot, bare: MainWindow, two_faces: Path) -> None:
    open_photo(qtbot, bare, two_faces)
    opened = bare.studio.photo.opened
    assert opened is not None
    centre = bare.stage.picture.face_rect(opened.faces[1]).center().toPoint()
    QTest.mouseClick(bare.stage.picture, Qt.MouseButton.LeftButton, pos=centre)
    assert bare.studio.photo.chosen == "B"
    assert bare.filmstrip.buttons[1].isChecked()
    QTest.mouseClick(bare.filmstrip.buttons[2], Qt.MouseButton.LeftButton)
    assert bare.studio.photo.chosen == WHOLE
    assert [button.isChecked() for button in bare.filmstrip.buttons] == [False, False, True]


def test_without_a_face_a_card_offers_the_whole_picture(
    qtbot, window: MainWindow, scenery: Path, two_faces: Path
) -> None:
    open_photo(qtbot, window, scenery)
    card = window.stage.card
    assert card.isVisible()
    assert "No face" in card.text
    assert not window.ask.field.isEnabled()
    QTest.mouseClick(card.action, Qt.MouseButton.LeftButton)
    assert window.studio.photo.chosen == WHOLE
    assert not card.isVisible()
    assert window.ask.field.isEnabled()
    open_photo(qtbot, window, two_faces)
    assert not card.isVisible()


def test_a_bad_photo_gets_a_line_that_can_be_dismissed(qtbot, bare: MainWindow, tmp_path: Path) -> None:
    with qtbot.waitSignal(bare.studio.photo.failed, timeout=PHOTO_MS):
        bare.studio.photo.open_file(tmp_path / "gone.jpg")
    assert bare.notice.isVisible()
    assert "gone.jpg" in bare.notice.text
    QTest.mouseClick(bare.notice.button, Qt.MouseButton.LeftButton)
    assert not bare.notice.isVisible()


def test_ask_answer_copy_and_what_the_model_received(
    qtbot, window: MainWindow, astronaut: Path, tmp_path: Path
) -> None:
    open_photo(qtbot, window, astronaut)
    window.ask.field.setFocus()
    QTest.keyClicks(window.ask.field, "Is this person smiling?")
    QTest.keyClick(window.ask.field, Qt.Key.Key_Return)
    assert window.ask.field.toPlainText() == ""
    assert window.filmstrip.buttons[0]._busy
    wait_for_answers(qtbot, window)
    assert not window.filmstrip.buttons[0]._busy
    (view,) = window.conversation.views
    answer = view.findChild(QTextBrowser)
    assert answer.toPlainText().split() == view.exchange.text.replace("*", "").split()
    assert "tokens/s" in view._caption.text()
    QTest.mouseClick(view._copy, Qt.MouseButton.LeftButton)
    assert QGuiApplication.clipboard().text() == view.exchange.text
    QTest.mouseClick(window.facts.fold, Qt.MouseButton.LeftButton)
    texts = [label.text() for label in window.facts.findChildren(QLabel) if label.isVisible()]
    assert {"224 × 224 px", "49", "Prompt tokens"} <= set(texts)
    prompt = window.facts.findChild(QPlainTextEdit)
    assert prompt.toPlainText() == view.exchange.prompt
    crop = tmp_path / "crop.png"
    window.intents.save_crop_to(str(crop))
    saved = QImage(str(crop)).convertToFormat(QImage.Format.Format_RGB888)
    tile = window.studio.photo.tile
    assert tile is not None
    assert (saved.width(), saved.height()) == (224, 224)
    assert saved.pixelColor(100, 50).getRgb()[:3] == tuple(int(value) for value in tile[50, 100])


def test_escape_stops_and_the_answer_says_so(qtbot, window: MainWindow, astronaut: Path) -> None:
    open_photo(qtbot, window, astronaut)
    window.ask.ask_preset(8)
    (exchange,) = window.studio.exchanges()
    qtbot.waitUntil(lambda: exchange.tokens >= 1, timeout=ANSWER_MS)
    assert window.ask.stop_button.isVisible()
    QTest.keyClick(window, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: exchange.status is Status.STOPPED, timeout=1000)
    (view,) = window.conversation.views
    assert view._caption.text().startswith("Stopped")
    assert view._again.isVisible()
    assert not window.ask.stop_button.isVisible()


def test_the_stop_button_stops(qtbot, window: MainWindow, astronaut: Path) -> None:
    open_photo(qtbot, window, astronaut)
    window.ask.ask_preset(8)
    (exchange,) = window.studio.exchanges()
    qtbot.waitUntil(lambda: exchange.tokens >= 1, timeout=ANSWER_MS)
    window.ask.field.setPlainText("And the next question")  # in the middle of it, there is still a way to stop
    QTest.mouseClick(window.ask.stop_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: exchange.status is Status.STOPPED, timeout=1000)
    assert window.ask.field.toPlainText() == "And the next question"
    assert len(window.studio.exchanges()) == 1


def test_a_lost_engine_is_one_line_and_restart_brings_it_back(qtbot, window: MainWindow, astronaut: Path) -> None:
    open_photo(qtbot, window, astronaut)
    qtbot.waitUntil(lambda: window.studio.engine.state.phase is Phase.READY, timeout=ANSWER_MS)
    info = window.studio.engine.state.info
    assert info is not None
    window.ask.ask_preset(8)
    (exchange,) = window.studio.exchanges()
    qtbot.waitUntil(lambda: exchange.tokens >= 1, timeout=ANSWER_MS)
    psutil.Process(info.pid).kill()
    qtbot.waitUntil(window.engine_notice.isVisible, timeout=5000)
    assert window.engine_notice.button.text().strip() == "Restart"
    (view,) = window.conversation.views
    assert view._again.isVisible()
    QTest.mouseClick(window.engine_notice.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: window.studio.engine.state.phase is Phase.READY, timeout=ANSWER_MS)
    assert not window.engine_notice.isVisible()


def test_a_refusal_is_a_card_without_an_answer(qtbot, window: MainWindow, astronaut: Path) -> None:
    open_photo(qtbot, window, astronaut)
    window.studio.ask("Who is this person?")
    wait_for_answers(qtbot, window)
    (view,) = window.conversation.views
    assert view._card.isVisible()
    assert not view._answer.isVisible()
    assert not view._copy.isVisible()


def test_closing_while_answering_leaves_no_child(qtbot, window: MainWindow, astronaut: Path) -> None:
    open_photo(qtbot, window, astronaut)
    window.ask.ask_preset(8)
    (exchange,) = window.studio.exchanges()
    qtbot.waitUntil(lambda: exchange.tokens >= 1, timeout=ANSWER_MS)
    info = window.studio.engine.state.info
    assert info is not None
    window.close()
    assert not window.isVisible()
    assert not psutil.pid_exists(info.pid)


# ---------------------------------------------------------------- keys, focus, names


def test_single_keys_choose_and_ask_unless_text_is_typed(qtbot, window: MainWindow, two_faces: Path) -> None:
    open_photo(qtbot, window, two_faces)
    window.stage.picture.setFocus()
    QTest.keyClick(window.stage.picture, Qt.Key.Key_B)
    assert window.studio.photo.chosen == "B"
    QTest.keyClick(window.stage.picture, Qt.Key.Key_0)
    assert window.studio.photo.chosen == WHOLE
    QTest.keyClick(window.stage.picture, Qt.Key.Key_Right)
    assert window.studio.photo.chosen == "A"
    QTest.keyClick(window.stage.picture, Qt.Key.Key_6)
    assert [exchange.question for exchange in window.studio.exchanges()] == [ASPECTS[5].question]
    QTest.keyClick(window.stage.picture, Qt.Key.Key_Slash)
    assert window.ask.field.hasFocus()
    QTest.keyClicks(window.ask.field, "b6w")
    assert window.ask.field.toPlainText() == "b6w"
    assert window.studio.photo.chosen == "A"
    assert len(window.studio.exchanges()) == 1
    QTest.keyClick(window.ask.field, Qt.Key.Key_2, Qt.KeyboardModifier.AltModifier)
    assert window.studio.exchanges()[1].question == ASPECTS[1].question
    assert window.ask.field.toPlainText() == "b6w"
    QTest.keyClick(window.ask.field, Qt.Key.Key_PageDown, Qt.KeyboardModifier.ControlModifier)
    assert window.studio.photo.chosen == "B"
    QTest.keyClick(window, Qt.Key.Key_Escape)
    wait_for_answers(qtbot, window)
    QTest.keyClick(window, Qt.Key.Key_Escape)
    assert window.stage.picture.hasFocus()


def test_shift_enter_makes_a_line_and_the_field_grows(qtbot, window: MainWindow, astronaut: Path) -> None:
    open_photo(qtbot, window, astronaut)
    field = window.ask.field
    low = field.height()
    QTest.keyClicks(field, "one")
    QTest.keyClick(field, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    QTest.keyClicks(field, "two")
    assert field.toPlainText() == "one\ntwo"
    assert field.height() > low
    assert window.studio.exchanges() == ()


def test_tab_goes_through_everything_in_reading_order(qtbot, window: MainWindow, two_faces: Path) -> None:
    open_photo(qtbot, window, two_faces)
    window.studio.ask("Who is this?")
    wait_for_answers(qtbot, window)
    window.facts.fold.setChecked(True)
    expected = [widget for widget in reading.focusable(window) if widget.isVisible() and widget.isEnabled()]
    window.activateWindow()
    expected[0].setFocus(Qt.FocusReason.TabFocusReason)
    seen = [QApplication.focusWidget()]
    for _ in expected[1:]:
        window.focusNextChild()
        seen.append(QApplication.focusWidget())
    assert seen == expected
    order = [expected.index(part) for part in (
        window.strip.open, window.stage.picture, *window.filmstrip.buttons, window.facts.fold, window.facts.save,
        *window.ask.chips, window.ask.field,
    )]  # fmt: skip
    assert order == sorted(order)


def test_everything_that_can_be_used_has_a_name_and_can_be_reached(qtbot, window: MainWindow, two_faces: Path) -> None:
    open_photo(qtbot, window, two_faces)
    window.studio.ask("Is this person smiling?")
    wait_for_answers(qtbot, window)
    window.facts.fold.setChecked(True)
    kinds = (QAbstractButton, QPlainTextEdit, QTextBrowser, QProgressBar)
    parts = [part for part in window.findChildren(QWidget) if isinstance(part, kinds)]
    assert len(parts) > 25
    nameless = [part for part in parts if not part.accessibleName().strip() and not _inner(part)]
    assert nameless == []
    unreachable = [
        part
        for part in parts
        if isinstance(part, QAbstractButton | QPlainTextEdit) and not part.focusPolicy() & Qt.FocusPolicy.TabFocus
    ]
    assert [part for part in unreachable if not _inner(part)] == []
    buttons = [part for part in parts if isinstance(part, QAbstractButton) and part.isVisible()]
    names = [button.accessibleName() for button in buttons]
    assert len(set(names)) == len(names)


def _inner(part: QWidget) -> bool:
    """Qt's own parts of a widget, such as a scroll bar's arrows."""
    return part.objectName().startswith("qt_")


def test_the_card_of_keys_opens_and_closes(qtbot, bare: MainWindow) -> None:
    QTest.keyClick(bare, Qt.Key.Key_F1)
    card = QApplication.activePopupWidget()
    assert isinstance(card, KeysCard)
    texts = {label.text() for label in card.findChildren(QLabel)}
    assert {keys for keys, _ in KEYS} <= texts
    QTest.keyClick(card, Qt.Key.Key_Escape)
    assert QApplication.activePopupWidget() is None
