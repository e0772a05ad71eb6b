"""Tab leads to nothing that is out of sight, Enter presses what it reached, the wheel moves what it is over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QVBoxLayout, QWidget

from facellm.core.aspects import ASPECTS
from facellm.core.faces import Face, FaceBox, Facts
from facellm.ui.panes.ask import AskPane, Chip
from facellm.ui.panes.conversation import ConversationPane
from facellm.ui.panes.filmstrip import FaceButton, Filmstrip
from facellm.ui.parts import Button, label
from facellm.ui.presenters.conversation import Exchange, Status
from facellm.ui.theme import Theme
from facellm.ui.window import MainWindow
from tests.ui.driving import open_photo

ANSWER = "The head is turned a little to the right. "


def _page(qtbot, theme: Theme, pane: QWidget) -> QWidget:
    """A page with a button that has the focus, and ``pane`` below it."""
    page, first = QWidget(), Button(theme, "First")
    column = QVBoxLayout(page)
    column.addWidget(first)
    column.addWidget(pane)
    qtbot.addWidget(page)
    page.resize(400, 300)
    page.show()
    page.activateWindow()
    qtbot.waitUntil(page.isActiveWindow, timeout=20_000)
    first.setFocus(Qt.FocusReason.TabFocusReason)
    return page


@pytest.fixture
def thread(qtbot, theme: Theme) -> Iterator[ConversationPane]:
    """Twelve answers, and then one that is higher than the pane; the end is in sight and the focus before it all."""
    pane = ConversationPane(theme)
    page = _page(qtbot, theme, pane)
    exchanges = [Exchange("A", f"Question {number}?", Status.DONE, ANSWER * 4) for number in range(12)]
    pane.show_thread((*exchanges, Exchange("A", "All?", Status.DONE, ANSWER * 60)), "")
    bar = pane.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() > 1000 and bar.value() == bar.maximum(), timeout=20_000)
    yield pane
    page.hide()


@pytest.fixture
def films(qtbot, theme: Theme) -> Iterator[Filmstrip]:
    """More faces than there is room for."""
    films = Filmstrip(theme)
    page = _page(qtbot, theme, films)
    image = QImage(900, 100, QImage.Format.Format_RGB888)
    image.fill(Qt.GlobalColor.gray)
    facts, points = Facts(50, 0.5, 0.2, 100), np.zeros((6, 2), np.float32)
    faces = [
        Face(letter, FaceBox(60 * at, 10, 50, 60, 0.9), facts, points) for at, letter in enumerate("ABCDEFGHIJKLMN")
    ]
    films.show_faces(image, 900, tuple(faces))
    qtbot.waitUntil(lambda: films._scroll.horizontalScrollBar().maximum() > 300, timeout=20_000)
    yield films
    page.hide()


def _seen(part: QWidget) -> bool:
    return part.visibleRegion().boundingRect() == part.rect()


def _wheel(target: QWidget) -> None:
    """One notch down over ``target``, as the platform tells of it: the focus may follow."""
    window = target.window()
    place = target.mapTo(window, target.rect().intersected(target.visibleRegion().boundingRect()).center())
    QTest.wheelEvent(window.windowHandle(), place, QPoint(0, -120))
    QApplication.processEvents()


def test_tab_into_the_thread_shows_where_it_arrives(thread: ConversationPane) -> None:
    QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
    focused = QApplication.focusWidget()
    assert focused is thread.views[0]._answer
    assert _seen(focused)
    for view in thread.views[:3]:
        for part in (view._answer, view._copy):
            assert QApplication.focusWidget() is part
            assert _seen(part)
            QTest.keyClick(part, Qt.Key.Key_Tab)


def test_of_an_answer_that_is_higher_than_the_pane_tab_shows_the_beginning(thread: ConversationPane) -> None:
    tall = thread.views[-1]._answer
    assert tall.height() > thread.viewport().height()
    thread.views[-2]._copy.setFocus(Qt.FocusReason.TabFocusReason)
    QTest.keyClick(thread.views[-2]._copy, Qt.Key.Key_Tab)
    assert QApplication.focusWidget() is tall
    assert tall.mapTo(thread.viewport(), QPoint(0, 0)).y() in (0, 1, 2)


def test_a_click_leaves_the_thread_where_it_is(thread: ConversationPane) -> None:
    tall, bar = thread.views[-1]._answer, thread.verticalScrollBar()
    before = bar.value()
    QTest.mouseClick(tall.viewport(), Qt.MouseButton.LeftButton, pos=tall.rect().bottomLeft() + QPoint(40, -20))
    assert tall.hasFocus()
    assert bar.value() == before


def test_the_wheel_scrolls_the_thread_and_takes_no_focus(thread: ConversationPane) -> None:
    tall, bar = thread.views[-1]._answer, thread.verticalScrollBar()
    bar.setValue(place := bar.maximum() - 400)  # over the long answer
    before = QApplication.focusWidget()
    _wheel(tall.viewport())
    assert bar.value() > place
    assert QApplication.focusWidget() is before
    assert tall.focusPolicy() == Qt.FocusPolicy.StrongFocus


def test_the_wheel_moves_a_full_filmstrip(films: Filmstrip) -> None:
    bar = films._scroll.horizontalScrollBar()
    _wheel(films._scroll.viewport())
    assert bar.value() > 0
    bar.setValue(bar.maximum())
    _wheel(films._scroll.viewport())
    assert bar.value() == bar.maximum()


def test_tab_shows_the_faces_that_it_reaches(films: Filmstrip) -> None:
    bar = films._scroll.horizontalScrollBar()
    bar.setValue(bar.maximum())
    assert films.buttons[0].visibleRegion().isEmpty()
    QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
    assert films.buttons[0].hasFocus()
    assert _seen(films.buttons[0])


@pytest.mark.parametrize("key", [Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space])
def test_enter_presses_as_space_does(qtbot, theme: Theme, key: Qt.Key) -> None:
    face = FaceButton(theme, "A", QImage(56, 56, QImage.Format.Format_RGB888), 1.0)
    for button in (Button(theme, "Open"), Chip(theme, 1, ASPECTS[0]), face):
        qtbot.addWidget(button)
        clicks: list[str] = []
        button.clicked.connect(lambda: clicks.append("click"))  # noqa: B023
        QTest.keyClick(button, key)
        assert len(clicks) == 1, button
        button.setEnabled(False)
        QTest.keyClick(button, key)
        assert len(clicks) == 1, button


def test_enter_on_a_chip_asks_its_question(qtbot, theme: Theme) -> None:
    pane = AskPane(theme)
    qtbot.addWidget(pane)
    pane.set_ready(True, "")
    with qtbot.waitSignal(pane.asked, timeout=1000) as asked:
        QTest.keyClick(pane.chips[2], Qt.Key.Key_Return)
    assert asked.args == [ASPECTS[2].question]


def test_enter_in_the_filmstrip_chooses(qtbot, bare: MainWindow, two_faces: Path) -> None:
    open_photo(qtbot, bare, two_faces)
    QTest.keyClick(bare.filmstrip.buttons[1], Qt.Key.Key_Return)
    assert bare.studio.photo.chosen == "B"


def test_a_label_breaks_a_long_word(qtbot) -> None:
    long, short = label("x" * 300, wrap=True), label("words of ordinary length", wrap=True)
    for part in (long, short):
        qtbot.addWidget(part)
    assert long.minimumSizeHint().width() < 300
    assert short.text() == "words of ordinary length"
