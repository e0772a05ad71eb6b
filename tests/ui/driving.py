"""What tests of the window do with it."""

from __future__ import annotations

from pathlib import Path

from facellm.ui.window import MainWindow
from tests.ui.conftest import ANSWER_MS, PHOTO_MS


def open_photo(qtbot, window: MainWindow, path: Path) -> None:
    with qtbot.waitSignal(window.studio.photo.opened_changed, timeout=PHOTO_MS):
        window.studio.photo.open_file(path)
    if window.studio.photo.chosen is not None:
        qtbot.waitUntil(lambda: window.facts.crop is not None, timeout=PHOTO_MS)


def wait_for_answers(qtbot, window: MainWindow) -> None:
    qtbot.waitUntil(lambda: not window.studio.conversation.running, timeout=ANSWER_MS)
