"""What a screen reader is told without being asked: a photo, the face that is chosen, that there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PySide6.QtGui import QAccessible

from facellm.core.faces import WHOLE, FaceBox
from facellm.ui import aloud, pixels
from facellm.ui.panes.notice import NoticeBar
from facellm.ui.panes.picture import PictureView
from facellm.ui.panes.stage import Stage
from facellm.ui.theme import Theme
from facellm.ui.window import MainWindow
from tests.ui.conftest import PHOTO_MS
from tests.ui.driving import open_photo
from tests.ui.test_picture import FACES


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """As if a screen reader were there."""
    texts: list[str] = []
    monkeypatch.setattr(aloud, "QAccessibleAnnouncementEvent", lambda _, text: text)
    monkeypatch.setattr(QAccessible, "isActive", lambda: True)
    monkeypatch.setattr(QAccessible, "updateAccessibility", texts.append)
    return texts


def test_a_photo_and_each_choice_are_said_once(qtbot, bare: MainWindow, two_faces: Path, heard: list[str]) -> None:
    open_photo(qtbot, bare, two_faces)
    assert heard == ["two.png, 2 faces found", "Face A chosen"]
    picture = bare.stage.picture
    assert picture.accessibleDescription() == "two.png, 2 faces found, Face A chosen"
    heard.clear()
    bare.studio.photo.choose("B")
    bare.studio.photo.choose(WHOLE)
    assert heard == ["Face B chosen", "Whole picture chosen"]
    assert picture.accessibleDescription() == "two.png, 2 faces found, Whole picture chosen"


def test_of_the_next_photo_only_its_own_face_is_said(
    qtbot, bare: MainWindow, two_faces: Path, astronaut: Path, heard: list[str]
) -> None:
    open_photo(qtbot, bare, two_faces)
    bare.studio.photo.choose("B")
    heard.clear()
    open_photo(qtbot, bare, astronaut)
    assert heard == ["astronaut.png, 1 face found", "Face A chosen"]


def test_that_no_face_was_found_is_said(qtbot, bare: MainWindow, scenery: Path, heard: list[str]) -> None:
    open_photo(qtbot, bare, scenery)
    assert heard == ["coffee.png, no face found", "No face was found in this photo."]
    assert bare.stage.picture.accessibleDescription() == "coffee.png, no face found"


def test_a_drawn_face_is_said_with_the_way_to_remove_it(
    qtbot, bare: MainWindow, astronaut: Path, heard: list[str]
) -> None:
    open_photo(qtbot, bare, astronaut)
    heard.clear()
    with qtbot.waitSignal(bare.studio.photo.faces_changed, timeout=PHOTO_MS):
        bare.studio.photo.draw(FaceBox(30, 250, 120, 150, 1.0))
    assert heard == ["Face B chosen, drawn by hand: Delete removes it"]
    qtbot.waitUntil(lambda: bare.facts.crop is not None, timeout=PHOTO_MS)


def test_notices_and_hints_are_said(qtbot, theme: Theme, heard: list[str]) -> None:
    notice, stage = NoticeBar(theme), Stage(theme)
    for part in (notice, stage):
        qtbot.addWidget(part)
    notice.show_text("holiday.jpg is no photo.", "Choose another.")
    stage.hint.show_text("Drag a box round the face", on_top=True)
    stage.hint.show_text("Drag a box round the face", on_top=False)
    stage.hint.show_text("", on_top=False)
    assert heard == ["holiday.jpg is no photo. Choose another.", "Drag a box round the face"]


def test_without_a_screen_reader_nothing_is_said(qtbot, theme: Theme, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[object] = []
    monkeypatch.setattr(QAccessible, "isActive", lambda: False)
    monkeypatch.setattr(QAccessible, "updateAccessibility", sent.append)
    view = PictureView(theme)
    qtbot.addWidget(view)
    view.show_photo(pixels.shown_image(np.zeros((800, 1200, 3), np.uint8)), 1200, FACES, "photo.jpg")
    view.choose("B")
    assert sent == []
