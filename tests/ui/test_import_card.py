"""Bringing a model in from the window: the card, the real child behind it, and what is left when it is ended."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from facellm.core.package import ModelPackage
from facellm.models.importing import QUANTS
from facellm.ui.backend import LocalBackend
from facellm.ui.panes.import_form import ImportForm
from facellm.ui.panes.importing import ImportPane
from facellm.ui.presenters.engine import Phase
from facellm.ui.presenters.importing import ImportPhase, ImportState, Looked, hub_server
from facellm.ui.window import MainWindow
from facellm.vision.finder import FaceModels
from tests.imports import left, put
from tests.ui.conftest import ANSWER_MS, ONE_THREAD, PHOTO_MS, Make


@pytest.fixture
def home(nano: ModelPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store without any model. What was imported into it is large, and goes at once."""
    monkeypatch.setenv("FACELLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FACELLM_OFFLINE", "1")
    yield tmp_path / "home"
    shutil.rmtree(tmp_path / "home", ignore_errors=True)


@pytest.fixture
def window(qtbot, window_of: Make, nano: ModelPackage, face_models: FaceModels, home: Path) -> Iterator[MainWindow]:
    """The nano answers, and is not in the store."""
    backend = LocalBackend(package=nano, face_models=face_models, options=ONE_THREAD)
    window = window_of(backend)
    qtbot.waitUntil(lambda: window.studio.engine.state.phase is Phase.READY, timeout=ANSWER_MS)
    yield window
    backend.close()


@pytest.fixture
def pair(nano: ModelPackage, tmp_path: Path) -> Path:
    return put(nano, tmp_path / "fetched", "Fetched")


def card_of(window: MainWindow) -> tuple[ImportPane, ImportForm]:
    return window.models.card, window.models.card.form


def look(qtbot, window: MainWindow, source: Path | str) -> Looked:
    """Type it, and wait until it is looked at."""
    importing = window.studio.importing
    card_of(window)[1].source.setText(str(source))
    qtbot.waitUntil(lambda: importing.looked.source == str(source), timeout=PHOTO_MS)
    return importing.looked


def begin(qtbot, window: MainWindow, source: Path, name: str) -> None:
    """Open the card, fill it in and start."""
    window.intents.import_model()
    look(qtbot, window, source)
    card, form = card_of(window)
    form.name.setText(name)
    QTest.mouseClick(card.import_button, Qt.MouseButton.LeftButton)
    assert window.studio.importing.state.running


def end(qtbot, window: MainWindow) -> ImportState:
    qtbot.waitUntil(lambda: not window.studio.importing.state.running, timeout=ANSWER_MS)
    return window.studio.importing.state


# ---------------------------------------------------------------- what is brought in


def test_a_pair_becomes_a_model_of_the_list_and_can_be_used(qtbot, window: MainWindow, home: Path, pair: Path) -> None:
    QTest.keyClick(window, Qt.Key.Key_M, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    card, form = card_of(window)
    assert card.isVisible()
    assert form.source.hasFocus()
    assert not card.import_button.isEnabled()
    looked = look(qtbot, window, pair)
    assert looked.found is not None
    assert form._what.toPlainText().startswith("Fetched · ")
    assert form.name.text() == looked.found.name
    assert not form.quant.isVisible()  # a pair is copied as it is
    form.name.setText("mine")
    QTest.keyClick(form.name, Qt.Key.Key_Return)
    assert window.studio.importing.state.running
    assert not form.source.isVisible()
    assert form._what.isVisible()
    assert card.cancel_button.hasFocus()
    state = end(qtbot, window)
    assert (state.phase, state.name, state.message) == (ImportPhase.DONE, "mine", "")
    assert left(home) == ["mine"]
    qtbot.waitUntil(lambda: "mine" in {each.name for each in window.studio.models.entries}, timeout=PHOTO_MS)
    assert card.use_button.hasFocus()
    QTest.keyClick(card.use_button, Qt.Key.Key_Return)
    assert not card.isVisible()
    assert window.studio.models.current == "mine"
    qtbot.waitUntil(lambda: window.studio.engine.state.phase is Phase.READY, timeout=ANSWER_MS)
    assert window.studio.engine.state.info is not None
    assert window.studio.engine.state.info.model == "Fetched"


def test_with_the_card_closed_the_strip_and_the_menu_show_it_and_a_notice_offers_it(
    qtbot, window: MainWindow, pair: Path
) -> None:
    begin(qtbot, window, pair, "mine")
    QTest.keyClick(window, Qt.Key.Key_Escape)
    assert not window.models.card.isVisible()
    assert window.studio.importing.state.running
    assert window.strip._progress.isVisible()
    assert window.strip._offline_text.text() == "offline"  # nothing is fetched
    entry = window.models.menu._import
    qtbot.waitUntil(lambda: entry.text().startswith("Importing mine…"), timeout=PHOTO_MS)
    entry.trigger()
    assert window.models.card.isVisible()
    QTest.keyClick(window, Qt.Key.Key_Escape)
    end(qtbot, window)
    assert not window.strip._progress.isVisible()
    assert entry.text().startswith("Import a model…")
    notice = window.models.ready
    assert notice.isVisible()
    assert notice.text == "Fetched is ready."
    assert window.studio.models.current == "nano"
    QTest.mouseClick(notice.button, Qt.MouseButton.LeftButton)
    assert not notice.isVisible()
    assert window.studio.models.current == "mine"


def test_where_there_was_no_model_it_answers_at_once(qtbot, bare: MainWindow, pair: Path, nano: ModelPackage) -> None:
    assert bare.models.menu.actions()[0].text() == "No model on this computer yet"
    assert bare.setup.import_button.isVisible()
    QTest.mouseClick(bare.setup.import_button, Qt.MouseButton.LeftButton)
    assert bare.models.card.isVisible()
    begin(qtbot, bare, pair, "mine")
    end(qtbot, bare)
    assert not bare.models.card.isVisible()
    assert bare.studio.models.current == "mine"
    qtbot.waitUntil(lambda: bare.studio.engine.state.phase is Phase.READY, timeout=ANSWER_MS)
    assert bare.ask.isVisible()
    shutil.rmtree(Path(os.environ["FACELLM_HOME"]) / "models")


def test_a_name_that_is_taken_can_be_replaced(qtbot, window: MainWindow, home: Path, pair: Path) -> None:
    put(ModelPackage("", pair / language_of(pair), pair / eyes_of(pair), 224), home / "models" / "mine", "Old")
    window.intents.import_model()
    look(qtbot, window, pair)
    card, form = card_of(window)
    form.name.setText("mine")
    assert form.replace.isVisible()
    assert not card.import_button.isEnabled()
    QTest.keyClick(form.replace, Qt.Key.Key_Space)
    assert card.import_button.isEnabled()
    QTest.keyClick(card.import_button, Qt.Key.Key_Return)
    assert end(qtbot, window).phase is ImportPhase.DONE
    assert left(home) == ["mine"]
    qtbot.waitUntil(lambda: "Fetched" in {each.title for each in window.studio.models.entries}, timeout=PHOTO_MS)


# ---------------------------------------------------------------- what is not


def test_what_is_of_no_use_is_said_below_the_field(qtbot, window: MainWindow, pair: Path, tmp_path: Path) -> None:
    window.intents.import_model()
    card, form = card_of(window)
    alone, empty = tmp_path / "alone", tmp_path / "empty"
    for folder in (alone, empty):
        folder.mkdir()
    (alone / "model.gguf").symlink_to(pair / language_of(pair))
    refused = {
        tmp_path / "nothing": "no file or folder",
        alone / "model.gguf": "image part",
        empty: str(empty),
    }
    for source, reason in refused.items():
        looked = look(qtbot, window, source)
        assert looked.found is None
        assert reason in looked.message
        assert looked.hint
        assert form._what.toPlainText() == f"{looked.message} {looked.hint}"
        assert not form.name.isVisible()
        assert not card.import_button.isEnabled()


def test_an_error_stands_in_the_card_and_what_was_typed_stays(qtbot, window: MainWindow, pair: Path) -> None:
    window.intents.import_model()
    look(qtbot, window, pair)
    card, form = card_of(window)
    language = pair / language_of(pair)
    language.unlink()  # after it was recognised
    language.write_bytes(b"GGUF")
    form.name.setText("mine")
    QTest.mouseClick(card.import_button, Qt.MouseButton.LeftButton)
    state = end(qtbot, window)
    assert state.phase is ImportPhase.FAILED
    assert state.message
    assert card._error.isVisible()
    assert card._error_text.toPlainText() == f"{state.message} {state.hint}".strip()
    assert (form.source.text(), form.name.text()) == (str(pair), "mine")
    assert form.source.isVisible()
    assert card.import_button.hasFocus()


def test_a_cancelled_import_leaves_nothing(qtbot, window: MainWindow, home: Path, pair: Path) -> None:
    begin(qtbot, window, pair, "mine")
    qtbot.waitUntil(lambda: window.studio.importing.state.done > 0, timeout=PHOTO_MS)
    card, form = card_of(window)
    QTest.keyClick(card.cancel_button, Qt.Key.Key_Return)
    assert card._step.text() == "Cancelling…"
    assert card.close_button.hasFocus()
    assert end(qtbot, window).phase is ImportPhase.IDLE
    assert left(home) == []
    assert card.isVisible()
    assert form.source.text() == str(pair)


def test_closing_the_window_ends_an_import_and_leaves_nothing(
    qtbot, window: MainWindow, home: Path, pair: Path
) -> None:
    begin(qtbot, window, pair, "mine")
    qtbot.waitUntil(lambda: window.studio.importing.state.done > 0, timeout=PHOTO_MS)
    window.close()
    assert left(home) == []


def test_a_hub_id_says_where_it_comes_from_and_the_strip_says_that_it_is_fetched(
    qtbot, window: MainWindow, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FACELLM_OFFLINE")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert hub_server() == "huggingface.co"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    window.intents.import_model()
    looked = look(qtbot, window, "faces/tiny")
    card, form = card_of(window)
    assert looked.found is not None
    assert form._about_hub.text() == "It will be fetched from 127.0.0.1:9. Photos stay on this computer."
    assert [form.quant.itemData(index) for index in range(form.quant.count())] == [kind for kind, _ in QUANTS]
    assert form.quant.currentData() == "Q8_0"
    assert form.adapter.isVisible()
    assert window.strip._offline_text.text() == "offline"
    QTest.mouseClick(card.import_button, Qt.MouseButton.LeftButton)
    assert window.strip._offline_text.text() == "fetching parts"
    assert form._about_hub.text() == "It is being fetched from 127.0.0.1:9. Photos stay on this computer."
    state = end(qtbot, window)
    assert state.phase is ImportPhase.FAILED
    assert window.strip._offline_text.text() == "offline"
    assert "127.0.0.1:9" in card._error_text.toPlainText()
    assert left(home) == []


def language_of(folder: Path) -> str:
    return next(path.name for path in folder.glob("*.gguf") if "mmproj" not in path.name)


def eyes_of(folder: Path) -> str:
    return next(path.name for path in folder.glob("*mmproj*.gguf"))
