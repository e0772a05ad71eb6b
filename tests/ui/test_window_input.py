"""How photos come into the window: dropped, pasted, and what is refused."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QGuiApplication, QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from facellm.ui.window import MainWindow
from tests.ui.conftest import PHOTO_MS
from tests.ui.driving import open_photo


def test_a_file_dropped_on_the_window_is_opened(qtbot, bare: MainWindow, astronaut: Path) -> None:
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(astronaut))])
    with qtbot.waitSignal(bare.studio.photo.opened_changed, timeout=PHOTO_MS):
        assert _drop(bare, mime)
    assert bare.studio.photo.chosen == "A"


def test_of_several_files_the_first_is_opened_and_it_is_said(
    qtbot, bare: MainWindow, astronaut: Path, two_faces: Path
) -> None:
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in (two_faces, astronaut)])
    with qtbot.waitSignal(bare.studio.photo.opened_changed, timeout=PHOTO_MS):
        _drop(bare, mime)
    assert "first of 2" in bare.notice.text
    assert bare.notice.isVisible()
    assert len(bare.filmstrip.buttons) == 3


def test_a_picture_on_the_web_is_not_fetched(bare: MainWindow) -> None:
    mime = QMimeData()
    mime.setUrls([QUrl("https://example.org/face.jpg")])
    _drop(bare, mime)
    assert "on the web" in bare.notice.text
    assert bare.studio.photo.opening == ""


def test_text_cannot_be_dropped(bare: MainWindow) -> None:
    mime = QMimeData()
    mime.setText("hello")
    assert not _drop(bare, mime)


def test_a_picture_in_the_clipboard_is_pasted(qtbot, bare: MainWindow, astronaut: Path) -> None:
    QGuiApplication.clipboard().setImage(QImage(str(astronaut)))
    with qtbot.waitSignal(bare.studio.photo.opened_changed, timeout=PHOTO_MS):
        QTest.keyClick(bare, Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
    opened = bare.studio.photo.opened
    assert opened is not None
    assert (opened.photo.width, opened.photo.height) == (512, 512)
    assert opened.photo.pixels[0, 0].tolist() == list(QImage(str(astronaut)).pixelColor(0, 0).getRgb()[:3])


def test_an_empty_clipboard_is_explained(bare: MainWindow) -> None:
    QGuiApplication.clipboard().clear()
    bare.intents.paste_photo()
    assert "clipboard" in bare.notice.text


def test_text_pasted_into_the_question_stays_there(qtbot, window: MainWindow, astronaut: Path) -> None:
    open_photo(qtbot, window, astronaut)
    QGuiApplication.clipboard().setText("Is she smiling?")
    QTest.keyClick(window.ask.field, Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
    assert window.ask.field.toPlainText() == "Is she smiling?"
    assert window.studio.photo.opening == ""


def _drop(window: MainWindow, mime: QMimeData) -> bool:
    at, copy = QPointF(200, 200), Qt.DropAction.CopyAction
    left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(at.toPoint(), copy, mime, left, none)
    enter.ignore()
    QApplication.sendEvent(window, enter)
    if not enter.isAccepted():
        return False
    drop = QDropEvent(at, copy, mime, left, none)
    QApplication.sendEvent(window, drop)
    return drop.isAccepted()
