"""Where parts are missing or damaged, on the disk of a real store: the window offers what mends it, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from facellm.core.package import ModelPackage
from facellm.models.store import AssetStore
from facellm.ui.backend import LocalBackend
from facellm.ui.presenters.conversation import Status
from facellm.ui.presenters.engine import Phase
from facellm.ui.presenters.studio import Studio
from facellm.ui.tasks import InlineRunner
from facellm.vision.finder import FaceModels
from tests.ui.conftest import ANSWER_MS, ONE_THREAD, PHOTO_MS, Make


@pytest.fixture
def home(nano: ModelPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store that holds the nano and nothing else; nothing can be fetched."""
    folder = tmp_path / "models" / "nano"
    folder.mkdir(parents=True)
    for file in nano.llm.parent.iterdir():
        if file.is_file() and not file.name.startswith("."):
            (folder / file.name).symlink_to(file.resolve())
    monkeypatch.setenv("FACELLM_HOME", str(tmp_path))
    monkeypatch.setenv("FACELLM_OFFLINE", "1")
    return tmp_path


@pytest.fixture
def of_store(face_models: FaceModels, home: Path) -> Iterator[LocalBackend]:
    """The nano of ``home``, whatever becomes of its files."""
    backend = LocalBackend(face_models=face_models, options=ONE_THREAD)
    yield backend
    backend.close()


def truncate(file: Path) -> Path:
    """Half a file where a link to the whole one was. Returns what it linked to."""
    whole = file.resolve()
    file.unlink()
    file.write_bytes(whole.read_bytes()[:1_000_000])
    return whole


def add_parts(assets: AssetStore, home: Path) -> None:
    (home / "assets").mkdir()
    for name in assets.names():
        if assets.file(name).is_file():
            (home / "assets" / assets.file(name).name).symlink_to(assets.file(name).resolve())


# ---------------------------------------------------------------- a damaged model


def test_a_damaged_embedded_model_can_be_built_again(of_store: LocalBackend, home: Path, nano: ModelPackage) -> None:
    truncate(home / "models" / "nano" / nano.mmproj.name)
    studio = Studio(of_store, InlineRunner(), InlineRunner())
    studio.engine.start()
    state = studio.engine.state
    assert state.phase is Phase.MISSING  # the card with the button that builds
    assert nano.mmproj.name in state.message
    assert state.hint == "Build the model again."


def test_the_card_says_why_and_offers_to_build(qtbot, window_of: Make, of_store: LocalBackend, home: Path) -> None:
    truncate(next((home / "models" / "nano").glob("*q8_0.gguf")))
    window = window_of(of_store)
    qtbot.waitUntil(lambda: window.studio.engine.state.phase is Phase.MISSING, timeout=ANSWER_MS)
    assert window.setup.isVisible()
    assert window.setup.build_button.isVisible()
    assert "is damaged" in window.setup._error.text()
    assert not window.engine_notice.isVisible()


def test_a_model_that_cannot_be_loaded_for_a_question_is_told_to_the_window(
    nano: ModelPackage, face_models: FaceModels, astronaut: Path, tmp_path: Path
) -> None:
    llm = tmp_path / nano.llm.name
    llm.symlink_to(nano.llm)
    package = ModelPackage("nano", llm, nano.mmproj, nano.tile)
    backend = LocalBackend(package=package, face_models=face_models, options=ONE_THREAD)
    try:
        studio = Studio(backend, InlineRunner(), InlineRunner())
        studio.engine.start()
        studio.photo.open_file(astronaut)
        assert studio.engine.state.info is not None
        child = psutil.Process(studio.engine.state.info.pid)
        child.kill()
        psutil.wait_procs([child], timeout=5)
        whole = truncate(llm)
        studio.ask("Is this person smiling?")
        (exchange,) = studio.exchanges()
        assert exchange.status is Status.FAILED
        assert exchange.error == "The model could not be loaded."
        assert studio.engine.state.phase is Phase.FAILED  # one line with Restart, and not "Loading" for ever
        assert nano.llm.name in studio.engine.state.message
        llm.unlink()
        llm.symlink_to(whole)
        studio.engine.restart()
        assert studio.engine.state.phase is Phase.READY
    finally:
        backend.close()


def test_an_unforeseen_error_while_loading_is_told_too(
    of_store: LocalBackend, astronaut: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = Studio(of_store, InlineRunner(), InlineRunner())
    studio.photo.open_file(astronaut)

    def load(_: object) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(of_store, "load", load)
    studio.ask("Is this person smiling?")
    assert studio.engine.state.phase is Phase.FAILED
    assert "no such luck" in studio.engine.state.message


# ---------------------------------------------------------------- face models


def test_without_the_parts_that_find_faces_the_window_offers_to_fetch_them(
    qtbot, window_of: Make, home: Path, assets: AssetStore, astronaut: Path
) -> None:
    window = window_of(LocalBackend(options=ONE_THREAD))
    photo, engine = window.studio.photo, window.studio.engine
    with qtbot.waitSignal(photo.failed, timeout=PHOTO_MS):
        photo.open_file(astronaut)
    qtbot.waitUntil(lambda: engine.state.phase is Phase.MISSING, timeout=PHOTO_MS)  # though the nano is there
    assert window.notice.text.startswith("The parts that find faces are not on this computer.")
    assert "facellm models" not in window.notice.text
    assert window.setup.build_button.isVisible()
    assert not window.setup._error.isVisible()
    written = (home / "models" / "nano").stat().st_mtime_ns
    add_parts(assets, home)
    with qtbot.waitSignal(photo.opened_changed, timeout=ANSWER_MS):  # by itself, when they are there
        QTest.mouseClick(window.setup.build_button, Qt.MouseButton.LeftButton)
        assert engine.state.phase is Phase.BUILDING
        assert not window.notice.isVisible()
    assert photo.chosen == "A"
    qtbot.waitUntil(lambda: engine.state.phase is Phase.READY, timeout=ANSWER_MS)
    assert (home / "models" / "nano").stat().st_mtime_ns == written  # nothing was wrong with it
    qtbot.waitUntil(lambda: window.facts.crop is not None, timeout=PHOTO_MS)


def test_damaged_parts_are_said_to_be_damaged(home: Path, assets: AssetStore) -> None:
    add_parts(assets, home)
    file = home / "assets" / assets.file("yunet").name
    file.unlink()
    file.write_bytes(b"not a model")
    backend = LocalBackend(options=ONE_THREAD)
    studio = Studio(backend, InlineRunner(), InlineRunner())
    studio.engine.start()
    assert studio.engine.state.phase is Phase.MISSING
    assert studio.engine.state.message == "The parts that find faces are damaged."
    backend.close()


def test_another_photo_opened_meanwhile_is_not_replaced(
    no_model: LocalBackend, home: Path, astronaut: Path, two_faces: Path
) -> None:
    bare = LocalBackend(options=ONE_THREAD)
    studio = Studio(bare, InlineRunner(), InlineRunner())
    studio.photo.open_file(astronaut)
    assert studio.photo.opened is None
    studio.photo._backend = no_model
    studio.photo.open_file(two_faces)
    studio.photo.retry()
    assert studio.photo.opened is not None
    assert Path(studio.photo.opened.photo.name).name == two_faces.name
    bare.close()
