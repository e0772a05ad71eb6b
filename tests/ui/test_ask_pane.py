"""Where questions are asked: what the field takes, when a question is taken from it, and the two buttons."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, Qt, QUrl
from PySide6.QtGui import QGuiApplication, QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QWidget

from facellm.core.ask import MOST_CHARACTERS
from facellm.ui.panes.ask import AskPane
from facellm.ui.theme import Theme

LEFT, CONTROL = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ControlModifier
ENTER = Qt.Key.Key_Return


@pytest.fixture
def pane(qtbot, theme: Theme) -> AskPane:
    pane = AskPane(theme)
    qtbot.addWidget(pane)
    pane.resize(460, 300)
    pane.set_ready(True, "Ask about face A…")
    pane.show()
    return pane


@pytest.fixture
def asked(pane: AskPane) -> list[str]:
    questions: list[str] = []
    pane.asked.connect(questions.append)
    return questions


# ---------------------------------------------------------------- pasting


def paste(pane: AskPane, mime: QMimeData) -> list[str]:
    """What Ctrl+V does: the pictures that it hands to the window."""
    heard: list[str] = []
    pane.field.picture_pasted.connect(lambda: heard.append("picture"))
    QGuiApplication.clipboard().setMimeData(mime)
    pane.field.setFocus()
    QTest.keyClick(pane.field, Qt.Key.Key_V, CONTROL)
    return heard


def test_a_copied_file_is_a_photo_and_not_the_text_of_its_address(pane: AskPane, astronaut: Path) -> None:
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(astronaut))])
    assert mime.hasText()  # what makes it look like one
    assert paste(pane, mime) == ["picture"]
    assert pane.field.toPlainText() == ""


def test_a_copied_picture_goes_to_the_window(pane: AskPane) -> None:
    mime = QMimeData()
    mime.setImageData(QImage(4, 4, QImage.Format.Format_RGB32))
    assert paste(pane, mime) == ["picture"]


def test_text_stays_text_also_with_a_picture_of_it_or_an_address(pane: AskPane) -> None:
    mime = QMimeData()  # as an office program copies
    mime.setText("Is she smiling?")
    mime.setImageData(QImage(4, 4, QImage.Format.Format_RGB32))
    assert paste(pane, mime) == []
    address = QMimeData()
    address.setUrls([QUrl("https://example.org/")])
    pane.field.moveCursor(pane.field.textCursor().MoveOperation.End)
    assert paste(pane, address) == []
    assert pane.field.toPlainText() == "Is she smiling?https://example.org/"


# ---------------------------------------------------------------- too long


def test_a_question_that_is_too_long_stays_and_that_is_said(pane: AskPane, asked: list[str]) -> None:
    text = "w" * (MOST_CHARACTERS + 1)
    pane.field.setPlainText(text)
    QTest.keyClick(pane.field, ENTER)
    QTest.mouseClick(pane.button, LEFT)
    assert asked == []
    assert pane.field.toPlainText() == text
    assert pane._too_long.isVisible()
    assert "2,001" in pane._too_long.text()
    assert "2,000" in pane._too_long.text()
    assert not pane.button.isEnabled()
    pane.field.setPlainText(f"  {text[1:]}  ")  # blanks round it do not count
    assert not pane._too_long.isVisible()
    QTest.keyClick(pane.field, ENTER)
    assert asked == [text[1:]]
    assert pane.field.toPlainText() == ""


def test_what_was_typed_is_kept_while_nothing_is_chosen(pane: AskPane, asked: list[str]) -> None:
    pane.field.setPlainText("Glasses?")
    pane.set_ready(False, "Nothing is chosen yet")
    assert not pane.button.isEnabled()
    QTest.mouseClick(pane.button, LEFT)
    pane.set_ready(True, "")
    assert pane.button.isEnabled()
    assert pane.field.toPlainText() == "Glasses?"
    assert asked == []


# ---------------------------------------------------------------- two buttons


def test_while_an_answer_runs_one_can_stop_it_and_ask_the_next(pane: AskPane, asked: list[str], qtbot) -> None:
    stops: list[str] = []
    pane.stop.connect(lambda: stops.append("stop"))
    assert not pane.stop_button.isVisible()
    QTest.qWait(1)
    place = _place(pane, pane.button)
    pane.set_answering(True)
    pane.field.setPlainText("And the mouth?")
    QTest.qWait(1)
    assert pane.stop_button.isVisible()
    assert pane.stop_button.accessibleName() == "Stop"
    assert _place(pane, pane.button) == place  # a second click on the same spot does not stop
    QTest.mouseClick(pane.stop_button, LEFT)
    assert (stops, asked) == (["stop"], [])
    QTest.mouseClick(pane.button, LEFT)
    assert (stops, asked) == (["stop"], ["And the mouth?"])


def test_the_focus_goes_back_to_the_question_when_the_stop_button_goes(pane: AskPane, qtbot) -> None:
    pane.set_answering(True)
    pane.activateWindow()
    pane.stop_button.setFocus()
    assert pane.stop_button.hasFocus()
    pane.set_answering(False)
    assert pane.field.hasFocus()


def _place(pane: AskPane, part: QWidget):
    return part.mapTo(pane, part.rect().topLeft())
