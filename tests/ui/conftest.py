"""Qt without a screen, the real parts behind the window, and no leaks: threads, timers and windows end with a test."""

from __future__ import annotations

import os

os.environ["QT_QPA_PLATFORM"] = "offscreen"

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import shiboken6
from PySide6.QtCore import QCoreApplication, QEvent, QSettings, Qt, QThreadPool, QTimer
from PySide6.QtWidgets import QApplication, QWidget

from facellm.core.package import ModelPackage
from facellm.engine.protocol import EngineOptions
from facellm.models.store import AssetStore
from facellm.ui.app import make_application, make_window
from facellm.ui.backend import LocalBackend
from facellm.ui.presenters.engine import Phase
from facellm.ui.presenters.studio import Studio
from facellm.ui.tasks import InlineRunner, ignore
from facellm.ui.theme import Theme
from facellm.ui.window import MainWindow
from facellm.vision.finder import FaceModels

#: llama.cpp's threads wait for each other by spinning: on a machine that does something else besides, two of them
#: measured 0.4 tokens/s where one measured 20.
ONE_THREAD = EngineOptions(device="cpu", threads=1)
ANSWER_MS = 90_000
PHOTO_MS = 60_000

Make = Callable[[LocalBackend], MainWindow]


@pytest.fixture(scope="session")
def qapp_cls() -> Callable[[list[str]], QApplication]:
    """pytest-qt makes the application as the product does."""
    return lambda _: make_application(["facellm"])


@pytest.fixture(autouse=True)
def nothing_is_left(qapp: QApplication) -> Iterator[None]:
    """A test that leaves a window, a running timer or a busy thread pool fails, and says which."""
    before = set(_alive())
    yield
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    gc.collect()
    left = [name for name in _alive() if name not in before]
    assert not left, f"left behind: {left}"


def _alive() -> list[str]:
    found = [f"window {widget!r}" for widget in QApplication.topLevelWidgets() if _is_ours(widget)]
    for thing in shiboken6.getAllValidWrappers():
        if isinstance(thing, QTimer) and thing.isActive():
            found.append(f"timer {thing!r} of {thing.parent()!r}")
        elif isinstance(thing, QThreadPool) and thing.activeThreadCount():
            found.append(f"thread pool {thing!r}")
    return found


def _is_ours(widget: QWidget) -> bool:
    return type(widget).__module__.startswith("facellm") or widget.isVisible()


@pytest.fixture
def settings(tmp_path: Path) -> QSettings:
    return QSettings(str(tmp_path / "settings.ini"), QSettings.Format.IniFormat)


@pytest.fixture
def theme(qapp: QApplication) -> Iterator[Theme]:
    theme = Theme(qapp, Qt.ColorScheme.Light)
    yield theme
    theme.close()


@pytest.fixture(scope="session")
def face_models(assets: AssetStore) -> FaceModels:
    return FaceModels(assets.path("face-landmarker"), assets.path("yunet"))


@pytest.fixture
def backend(nano: ModelPackage, face_models: FaceModels) -> Iterator[LocalBackend]:
    """The real finder, the real child process, the real model."""
    backend = LocalBackend(package=nano, face_models=face_models, options=ONE_THREAD)
    yield backend
    backend.close()


@pytest.fixture
def no_model(
    face_models: FaceModels, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalBackend]:
    """The real finder on a computer where no model was built."""
    monkeypatch.setenv("FACELLM_HOME", str(tmp_path_factory.mktemp("home")))
    backend = LocalBackend(face_models=face_models)
    yield backend
    backend.close()


@pytest.fixture
def window_of(qtbot, theme: Theme, settings: QSettings) -> Iterator[Callable[[LocalBackend], MainWindow]]:
    """Makes the window over a backend, shows it and loads the model in the background, as the product does."""
    windows = []

    def make(backend: LocalBackend) -> MainWindow:
        window = make_window(backend, theme, settings)
        windows.append(window)
        window.resize(1280, 820)
        window.show()
        window.begin([])
        return window

    yield make
    for window in windows:
        window.close()
        window.deleteLater()


@pytest.fixture(scope="session")
def scenery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo without a face (scikit-image's coffee cup, CC0)."""
    from PIL import Image
    from skimage import data

    path = tmp_path_factory.mktemp("photos") / "coffee.png"
    Image.fromarray(data.coffee()).save(path)
    return path


@pytest.fixture(scope="session")
def two_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The astronaut twice, side by side, the right one mirrored."""
    from PIL import Image
    from skimage import data

    photo = data.astronaut()
    path = tmp_path_factory.mktemp("photos") / "two.png"
    Image.fromarray(np.concatenate([photo, photo[:, ::-1]], axis=1)).save(path)
    return path


@pytest.fixture
def window(window_of: Make, backend: LocalBackend) -> MainWindow:
    return window_of(backend)


@pytest.fixture
def bare(qtbot, window_of: Make, no_model: LocalBackend) -> MainWindow:
    """Without a model: quick, for all that needs no answer."""
    window = window_of(no_model)
    qtbot.waitUntil(lambda: window.studio.engine.state.phase is Phase.MISSING, timeout=PHOTO_MS)
    return window


@pytest.fixture(scope="module")
def warm(nano: ModelPackage, face_models: FaceModels, scenery: Path) -> Iterator[LocalBackend]:
    """One child process and one finder for the tests that only ask."""
    backend = LocalBackend(package=nano, face_models=face_models, options=ONE_THREAD)
    backend.load(ignore)
    backend.open_file(scenery)
    yield backend
    backend.close()


@pytest.fixture
def studio(warm: LocalBackend) -> Studio:
    """Everything at once and in this thread."""
    return Studio(warm, InlineRunner(), InlineRunner())
