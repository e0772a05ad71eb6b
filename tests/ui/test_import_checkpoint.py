"""A checkpoint brought in from the window, out of a folder and from the hub: converted, tried, and asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the checkpoint is made with PyTorch")
pytest.importorskip("transformers", reason="the checkpoint is made with transformers")
pytest.importorskip("huggingface_hub")

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from facellm.ui.presenters.engine import Phase
from facellm.ui.presenters.importing import ImportPhase
from facellm.ui.window import MainWindow
from tests.converters import checkpoints
from tests.converters.hub_server import REPO, Hub, hub_with_a_model
from tests.imports import left
from tests.ui.conftest import ANSWER_MS
from tests.ui.test_import_card import card_of, end, home, look, window

__all__ = ["home", "window"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "small"
    checkpoints.internvl(folder)
    return folder


@pytest.fixture
def hub(home: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for server in hub_with_a_model(tmp_path, monkeypatch):
        server.files = {file.name: file.read_bytes() for file in checkpoint.iterdir()}
        yield server


def import_and_use(qtbot, window: MainWindow, source: str, home: Path) -> None:
    window.intents.import_model()
    assert look(qtbot, window, source).found is not None
    card, form = card_of(window)
    form.name.setText("mine")
    form.quant.setCurrentIndex(form.quant.findText("Q8_0", Qt.MatchFlag.MatchStartsWith))
    QTest.mouseClick(card.import_button, Qt.MouseButton.LeftButton)
    state = end(qtbot, window)
    assert (state.phase, state.message) == (ImportPhase.DONE, "")
    assert left(home) == ["mine"]
    window.studio.use("mine")
    engine = window.studio.engine
    qtbot.waitUntil(
        lambda: engine.state.phase is Phase.READY and engine.state.info.model.startswith("mine"), timeout=ANSWER_MS
    )


def test_a_folder(qtbot, window: MainWindow, checkpoint: Path, home: Path) -> None:
    import_and_use(qtbot, window, str(checkpoint), home)
    assert sorted(file.name for file in (home / "models" / "mine").iterdir()) == [
        "mine-mmproj-f16.gguf", "mine-q8_0.gguf", "mine.md",
    ]  # fmt: skip


def test_the_hub(qtbot, window: MainWindow, hub: Hub, home: Path) -> None:
    window.intents.import_model()
    look(qtbot, window, REPO)
    assert hub.seen == []  # nothing is asked of a server before Import is pressed
    import_and_use(qtbot, window, REPO, home)
    assert hub.asked("model.safetensors")


def test_an_error_of_the_converter_stands_in_the_card(
    qtbot, window: MainWindow, checkpoint: Path, home: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in checkpoint.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    window.intents.import_model()
    look(qtbot, window, str(broken))
    QTest.mouseClick(card_of(window)[0].import_button, Qt.MouseButton.LeftButton)
    state = end(qtbot, window)
    assert state.phase is ImportPhase.FAILED
    assert "model.safetensors" in state.message
    assert state.hint
    assert card_of(window)[1].source.text() == str(broken)
    assert left(home) == []
    assert window.studio.engine.state.phase is Phase.READY
