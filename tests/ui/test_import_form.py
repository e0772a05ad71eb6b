"""The card that brings a model in, as it is used: dropped and pasted into, by keys, in a low window."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, Qt, QUrl
from PySide6.QtGui import QGuiApplication, QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from facellm.models.importing import ImportOrder
from facellm.ui import reading
from facellm.ui.presenters.importing import ImportPhase
from facellm.ui.window import MainWindow
from tests.ui.conftest import PHOTO_MS
from tests.ui.test_import_card import card_of, end, eyes_of, language_of, look, pair
from tests.ui.test_window_input import _drop

__all__ = ["pair"]


def test_a_folder_or_a_gguf_dropped_on_the_window_opens_the_card(qtbot, bare: MainWindow, pair: Path) -> None:
    for paths in ([pair], [pair / language_of(pair), pair / eyes_of(pair)]):
        mime = QMimeData()
        mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
        assert _drop(bare, mime)
        assert bare.models.card.isVisible()
        source = str(paths[0])
        qtbot.waitUntil(lambda source=source: bare.studio.importing.looked.source == source, timeout=PHOTO_MS)
        assert bare.studio.importing.looked.found is not None
        bare.models.close_card()


def test_a_path_can_be_pasted_into_the_field(qtbot, bare: MainWindow, pair: Path) -> None:
    bare.intents.import_model()
    QGuiApplication.clipboard().setText(f'"{pair}"')
    _, form = card_of(bare)
    QTest.keySequence(form.source, QKeySequence(QKeySequence.StandardKey.Paste))
    qtbot.waitUntil(lambda: bare.studio.importing.looked.found is not None, timeout=PHOTO_MS)
    assert not bare.notice.isVisible()  # which would say that this is no photo


def test_in_a_low_window_an_error_and_the_button_are_in_sight(
    qtbot, bare: MainWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACELLM_OFFLINE", "1")
    bare.resize(640, 480)
    bare.intents.import_model()
    card, _ = card_of(bare)
    assert look(qtbot, bare, "faces/tiny").found is not None
    assert card.import_button.isEnabled()
    QTest.keyClick(card.import_button, Qt.Key.Key_Return)
    assert card.cancel_button.visibleRegion().boundingRect() == card.cancel_button.rect()
    assert card._progress.visibleRegion().boundingRect() == card._progress.rect()
    assert end(qtbot, bare).phase is ImportPhase.FAILED
    for part in (card._error, card.import_button):
        qtbot.waitUntil(lambda part=part: part.visibleRegion().boundingRect() == part.rect(), timeout=PHOTO_MS)


def test_a_photo_that_is_opened_is_shown(qtbot, bare: MainWindow, scenery: Path) -> None:
    bare.intents.import_model()
    with qtbot.waitSignal(bare.studio.photo.opened_changed, timeout=PHOTO_MS):
        bare.studio.photo.open_file(scenery)
    assert bare.stage.isVisible()
    assert not bare.models.card.isVisible()


def test_single_keys_do_nothing_behind_the_card(bare: MainWindow) -> None:
    bare.intents.import_model()
    bare.models.card.close_button.setFocus()
    QTest.keyClick(bare.models.card.close_button, Qt.Key.Key_B)
    assert not bare.stage.picture.drawing.active
    QTest.keyClick(bare.models.card.close_button, Qt.Key.Key_Return)
    assert not bare.models.card.isVisible()


@pytest.mark.parametrize("size", [(1280, 820), (640, 480)])
def test_everything_on_the_card_can_be_reached_in_reading_order(
    qtbot, bare: MainWindow, size: tuple[int, int], tmp_path: Path
) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "config.json").write_text('{"architectures": ["InternVLForConditionalGeneration"]}')
    (tmp_path / "checkpoint" / "model.safetensors").write_bytes(bytes(100))
    bare.resize(*size)
    bare.intents.import_model()
    card, form = card_of(bare)
    assert look(qtbot, bare, tmp_path / "checkpoint").found is not None
    wanted = [form.source, form.folder, form.file, form.quant, form.adapter, form.adapter_folder, form.name]
    wanted += [card.cancel_button, card.import_button]
    assert [part for part in reading.focusable(card) if part.isVisible() and part.isEnabled()][1:] == wanted
    form.source.setFocus(Qt.FocusReason.TabFocusReason)
    for part in wanted[1:]:
        QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
        assert part.hasFocus()
        assert part.accessibleName()
        assert part.visibleRegion().boundingRect() == part.rect()
        assert part.mapTo(bare, QPoint(part.width(), 0)).x() <= bare.width()


def test_the_order_is_what_the_fields_say(qtbot, bare: MainWindow, pair: Path) -> None:
    bare.intents.import_model()
    card, form = card_of(bare)
    started: list[object] = []
    card.start.disconnect()
    card.start.connect(lambda *order: started.append(order))
    look(qtbot, bare, "faces/tiny@v2")
    form.quant.setCurrentIndex(form.quant.findData("Q4_K_M"))
    form.adapter.setText("~/lora")
    form.name.clear()
    QTest.keyClicks(form.name, "My Tiny")  # typed: it stays when the source is another
    card.import_button.click()
    look(qtbot, bare, pair)
    card.import_button.click()
    assert started == [
        (ImportOrder("faces/tiny@v2", "My Tiny", quant="Q4_K_M", adapter="~/lora"), True),
        (ImportOrder(str(pair), "My Tiny"), False),
    ]
