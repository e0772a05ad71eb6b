"""Building the model from the window: in its own process, with progress, an end when asked, and errors as sentences."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from facellm.models.store import AssetStore
from facellm.ui.backend import LocalBackend
from facellm.ui.build import Build, BuildCancelled, BuildFailed
from facellm.ui.presenters.engine import Phase
from facellm.ui.tasks import ignore
from facellm.ui.window import MainWindow


@pytest.fixture
def parts_only(assets: AssetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with every part that was fetched, and no model."""
    folder = tmp_path / "assets"
    folder.mkdir()
    for name in assets.names():
        if assets.file(name).is_file():
            (folder / assets.file(name).name).symlink_to(assets.file(name).resolve())
    monkeypatch.setenv("FACELLM_HOME", str(tmp_path))
    monkeypatch.setenv("FACELLM_OFFLINE", "1")
    return tmp_path


def test_without_parts_and_network_the_build_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACELLM_HOME", str(tmp_path))
    monkeypatch.setenv("FACELLM_OFFLINE", "1")
    with pytest.raises(BuildFailed) as failure:
        Build().run(ignore)
    assert "not on this computer" in str(failure.value)
    assert failure.value.hint


def test_a_build_reports_and_ends_when_cancelled_leaving_no_half_files(parts_only: Path) -> None:
    build, heard, ended = Build(), [], []
    begun = threading.Event()

    def hear(event: object) -> None:
        heard.append(event)
        if "writing" in str(event).lower():
            begun.set()

    def run() -> None:
        try:
            build.run(hear)
        except BuildCancelled:
            ended.append("cancelled")

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(120), heard
    before = time.monotonic()
    build.cancel()
    assert time.monotonic() - before < 0.1  # the window's own thread calls it
    thread.join(10)
    assert ended == ["cancelled"]
    assert not list((parts_only / "models" / "nano").glob("*.part"))
    assert not list((parts_only / "models" / "nano").glob("*.gguf"))


def test_a_build_cancelled_before_it_began_does_not_begin() -> None:
    build = Build()
    build.cancel()
    with pytest.raises(BuildCancelled):
        build.run(ignore)


def test_a_child_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = 'import time; print(\'{"stage": "deaf", "share": 0.1}\', flush=True); time.sleep(600)'
    monkeypatch.setattr("facellm.core.child._START", deaf)
    monkeypatch.setattr("facellm.ui.child.GRACE_S", 0.2)
    build = Build()
    with pytest.raises(BuildCancelled):
        build.run(lambda _: build.cancel())


def test_a_build_cancelled_while_its_child_starts_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    build, start = Build(), Build._start

    def slow(self: Build) -> subprocess.Popen[str]:
        process = start(self)
        build.cancel()
        return process

    monkeypatch.setattr(Build, "_start", slow)
    with pytest.raises(BuildCancelled):
        build.run(ignore)


def test_a_cancel_right_after_the_start_is_not_lost(qtbot, bare: MainWindow, parts_only: Path) -> None:
    bare.studio.engine.build()
    bare.studio.engine.cancel_build()
    assert bare.setup._stage.text() == "Cancelling"
    qtbot.waitUntil(lambda: bare.studio.engine.state.phase is Phase.MISSING, timeout=30_000)
    assert bare.studio.engine.state.message == ""
    assert not list(parts_only.glob("models/nano/*.gguf"))


def test_closing_the_window_ends_the_build(qtbot, bare: MainWindow, parts_only: Path) -> None:
    bare.studio.engine.build()
    build = bare.studio.engine._build
    assert build is not None
    qtbot.waitUntil(lambda: build._process is not None, timeout=30_000)
    bare.close()
    assert build.cancelled
    assert build._process is None


def test_the_card_shows_progress_and_why_it_failed(
    qtbot, window_of, no_model: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACELLM_OFFLINE", "1")
    window = window_of(no_model)
    qtbot.waitUntil(lambda: window.studio.engine.state.phase is Phase.MISSING, timeout=30_000)
    QTest.mouseClick(window.setup.build_button, Qt.MouseButton.LeftButton)
    assert window.studio.engine.state.phase is Phase.BUILDING
    assert window.setup.cancel_button.isVisible()
    assert window.strip._offline_text.text() == "fetching parts"
    qtbot.waitUntil(lambda: window.studio.engine.state.phase is Phase.MISSING, timeout=30_000)
    assert "not on this computer" in window.setup._error.text()
    assert window.setup._error.isVisible()
    assert window.setup.build_button.isVisible()
    assert window.strip._offline_text.text() == "offline"
