"""The line over the content: what went wrong stays until it is mended, what is only to be known goes by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QVBoxLayout, QWidget

from facellm.core.faces import FaceBox
from facellm.ui.panes.notice import INFO_MS, NoticeBar
from facellm.ui.theme import Theme
from facellm.ui.window import MainWindow
from tests.ui.conftest import PHOTO_MS
from tests.ui.driving import open_photo


@pytest.fixture
def notice(qtbot, theme: Theme) -> Iterator[NoticeBar]:
    """In a window that has the focus itself, away from the mouse."""
    host = QWidget()
    qtbot.addWidget(host)
    host.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    notice = NoticeBar(theme)
    QVBoxLayout(host).addWidget(notice)
    host.setGeometry(300, 300, 400, 100)
    host.show()
    host.activateWindow()
    host.setFocus()
    notice._fade.setInterval(30)
    yield notice
    host.close()


def test_an_information_goes_by_itself(qtbot, notice: NoticeBar) -> None:
    notice.show_text("Saved crop.png.", kind="info")
    assert notice.isVisible()
    qtbot.waitUntil(lambda: not notice.isVisible(), timeout=2000)
    assert 4000 <= INFO_MS <= 10_000


def test_but_not_while_it_is_being_used(qtbot, notice: NoticeBar) -> None:
    notice.show_text("Saved crop.png.", kind="info")
    notice.button.setFocus()
    qtbot.wait(120)
    assert notice.isVisible()
    notice.window().setFocus()
    qtbot.waitUntil(lambda: not notice.isVisible(), timeout=2000)


def test_what_went_wrong_stays_also_after_an_information(qtbot, notice: NoticeBar) -> None:
    notice.show_text("Saved crop.png.", kind="info")
    notice.show_text("holiday.jpg is no photo.")
    qtbot.wait(120)
    assert notice.isVisible()


def test_only_what_went_wrong_is_mended(notice: NoticeBar) -> None:
    notice.show_text("Opened one.jpg, the first of 3.", kind="info")
    notice.mended()
    assert notice.isVisible()
    notice.show_text("holiday.jpg is no photo.")
    notice.mended()
    assert not notice.isVisible()


def test_a_box_that_succeeds_takes_back_the_line_about_the_one_that_did_not(
    qtbot, bare: MainWindow, astronaut: Path
) -> None:
    open_photo(qtbot, bare, astronaut)
    photo = bare.studio.photo
    with qtbot.waitSignal(photo.failed, timeout=PHOTO_MS):
        photo.draw(FaceBox(5, 5, 4, 4, 1.0))
    assert bare.notice.isVisible()
    with qtbot.waitSignal(photo.faces_changed, timeout=PHOTO_MS):
        photo.draw(FaceBox(30, 250, 120, 150, 1.0))
    assert not bare.notice.isVisible()
    qtbot.waitUntil(lambda: bare.facts.crop is not None, timeout=PHOTO_MS)


def test_closing_the_window_ends_its_time(qtbot, bare: MainWindow) -> None:
    bare.notice.show_text("Saved crop.png.", kind="info")
    assert bare.notice._fade.isActive()
    bare.close()
    assert not bare.notice._fade.isActive()
