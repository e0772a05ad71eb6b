"""Several models on this computer: the menu lists them, another one goes on where the one before was."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from PySide6.QtCore import QObject, QPoint, QSettings, Qt, QUrl, Slot
from PySide6.QtGui import QDesktopServices
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from facellm.core.faces import FaceBox
from facellm.core.package import ModelPackage
from facellm.core.sizes import bytes_text
from facellm.models.store import AssetStore
from facellm.ui import reading
from facellm.ui.backend import LocalBackend
from facellm.ui.presenters.conversation import Status
from facellm.ui.presenters.engine import Phase
from facellm.ui.presenters.studio import Studio
from facellm.ui.tasks import InlineRunner
from facellm.ui.window import MainWindow
from facellm.vision.finder import FaceModels
from tests.imports import put
from tests.ui.conftest import ANSWER_MS, ONE_THREAD, PHOTO_MS, Make
from tests.ui.driving import open_photo, wait_for_answers
from tests.ui.test_missing import add_parts

NANO, SECOND = "FaceLLM-nano (embedded)", "Second"


@pytest.fixture
def home(nano: ModelPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with two models; nothing can be fetched."""
    put(nano, tmp_path / "models" / "nano")
    put(nano, tmp_path / "models" / "second", SECOND)
    monkeypatch.setenv("FACELLM_HOME", str(tmp_path))
    monkeypatch.setenv("FACELLM_OFFLINE", "1")
    return tmp_path


@pytest.fixture
def make_backend(face_models: FaceModels, home: Path) -> Iterator[Callable[[], LocalBackend]]:
    made: list[LocalBackend] = []

    def make() -> LocalBackend:
        made.append(LocalBackend(face_models=face_models, options=ONE_THREAD))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


@pytest.fixture
def studio(make_backend: Callable[[], LocalBackend]) -> Studio:
    return Studio(make_backend(), InlineRunner(), InlineRunner())


@pytest.fixture
def window(qtbot, window_of: Make, make_backend: Callable[[], LocalBackend]) -> MainWindow:
    window = window_of(make_backend())
    ready(qtbot, window, NANO)
    return window


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children() if "resource_tracker" not in str(child.cmdline())}


class FileManager(QObject):
    """In the place of the desktop's."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Path] = []

    @Slot(QUrl)
    def show_folder(self, url: QUrl) -> None:
        self.shown.append(Path(url.toLocalFile()))


def ready(qtbot, window: MainWindow, title: str) -> None:
    def there() -> bool:
        info = window.studio.engine.state.info
        return info is not None and info.model == title

    qtbot.waitUntil(there, timeout=ANSWER_MS)


def listed(window: MainWindow) -> list[str]:
    return [action.text() for action in window.models.menu.actions() if action.isCheckable()]


# ---------------------------------------------------------------- the list


def test_the_list_has_the_embedded_model_first_and_sizes(studio: Studio, nano: ModelPackage) -> None:
    studio.begin()
    size = nano.llm.stat().st_size + nano.mmproj.stat().st_size
    assert [(entry.name, entry.title, entry.bytes) for entry in studio.models.entries] == [
        ("nano", NANO, size),
        ("second", SECOND, size),
    ]
    assert studio.models.current == "nano"
    assert [studio.models.taken(name) for name in ("second", "third", "nano", "")] == [True, False, False, False]


def test_models_of_the_same_title_are_told_apart(studio: Studio, home: Path, nano: ModelPackage) -> None:
    put(nano, home / "models" / "third", SECOND)
    studio.models.refresh()
    assert [entry.title for entry in studio.models.entries] == [NANO, "Second · second", "Second · third"]
    studio.use("third")
    assert studio.engine.state.info is not None
    assert studio.engine.state.info.model == "Second · third"


def test_the_button_opens_the_menu_and_the_menu_changes_the_model(qtbot, window: MainWindow) -> None:
    button, menu = window.strip.models, window.models.menu
    assert button.accessibleName() == f"Models: {NANO} · CPU, 1 thread"
    assert button in reading.focusable(window.centralWidget())
    assert button.focusPolicy() & Qt.FocusPolicy.TabFocus
    QTest.keyClick(button, Qt.Key.Key_Return)
    assert menu.isVisible()
    qtbot.waitUntil(lambda: len(listed(window)) == 2, timeout=PHOTO_MS)
    size = bytes_text(window.studio.models.entries[0].bytes)
    assert listed(window) == [f"{NANO}\t{size}", f"{SECOND}\t{size}"]
    assert [action.isChecked() for action in menu.actions()[:2]] == [True, False]
    assert menu.actions()[3].text() == "Import a model…\tCtrl+Shift+M"
    for key in (Qt.Key.Key_Down, Qt.Key.Key_Down, Qt.Key.Key_Return):
        QTest.keyClick(menu, key)
    assert not menu.isVisible()
    ready(qtbot, window, SECOND)
    assert [action.isChecked() for action in menu.actions()[:2]] == [False, True]


def test_the_menu_opens_the_folder_of_models(window: MainWindow, home: Path) -> None:
    manager = FileManager()
    QDesktopServices.setUrlHandler("file", manager, "show_folder")
    try:
        window.models.menu.actions()[-1].trigger()
    finally:
        QDesktopServices.unsetUrlHandler("file")
    assert manager.shown == [home / "models"]


def test_the_smallest_window_has_room_for_the_button(qtbot, window: MainWindow) -> None:
    window.resize(640, 480)
    qtbot.wait(30)
    for part in (window.strip.models, window.strip.keys):
        assert window.rect().contains(part.mapTo(window, QPoint(part.width(), part.height())))
    assert window.strip.models.line.text().startswith("FaceLLM")


# ---------------------------------------------------------------- another model


def test_another_model_goes_on_with_photo_faces_and_what_was_said(studio: Studio, astronaut: Path) -> None:
    studio.begin()
    studio.photo.open_file(astronaut)
    studio.photo.draw(FaceBox(20, 20, 120, 120, 1.0))
    assert studio.photo.chosen == "B"
    studio.ask("Is this person wearing glasses?")
    opened, (first,) = studio.photo.opened, studio.exchanges()
    assert opened is not None and studio.engine.state.info is not None
    before = psutil.Process(studio.engine.state.info.pid)
    assert not first.says_model
    studio.use("second")
    assert studio.engine.state.phase is Phase.READY
    assert studio.engine.state.info.model == SECOND
    assert not before.is_running()
    assert studio.photo.opened is opened
    assert [face.label for face in opened.faces] == ["A", "B"]
    assert studio.photo.chosen == "B"
    assert studio.exchanges() == (first,)
    studio.ask("Is this person smiling?")
    second = studio.exchanges()[1]
    assert "Is this person wearing glasses?" in second.prompt
    assert first.text in second.prompt
    assert [(each.model, each.says_model) for each in (first, second)] == [(NANO, True), (SECOND, True)]
    studio.photo.choose("A")
    studio.ask("Is this person smiling?")
    assert not studio.exchanges()[0].says_model  # in this thread only one has answered


def test_faces_can_be_drawn_and_removed_after_the_change(studio: Studio, astronaut: Path) -> None:
    studio.begin()
    studio.photo.open_file(astronaut)
    studio.photo.draw(FaceBox(20, 20, 120, 120, 1.0))
    studio.use("second")
    studio.photo.draw(FaceBox(200, 200, 330, 330, 1.0))
    assert studio.photo.chosen == "C"
    studio.ask("Is this person smiling?")
    assert studio.exchanges()[0].status is Status.DONE
    assert studio.photo.remove("B")
    assert [face.label for face in studio.photo.opened.faces] == ["A", "C"]  # type: ignore[union-attr]


def test_a_running_answer_is_stopped_first_and_stays(qtbot, window: MainWindow, astronaut: Path) -> None:
    open_photo(qtbot, window, astronaut)
    window.studio.ask("Describe this face in detail.")
    (exchange,) = window.studio.exchanges()
    qtbot.waitUntil(lambda: exchange.tokens > 2, timeout=ANSWER_MS)
    said = exchange.text
    window.studio.use("second")
    window.studio.ask("Is this person smiling?")
    wait_for_answers(qtbot, window)
    first, second = window.studio.exchanges()
    assert first.status is Status.STOPPED
    assert first.text.startswith(said)
    assert (second.status, second.model) == (Status.DONE, SECOND)
    captions = [view._caption.full for view in window.conversation.views]
    assert captions[0].startswith(f"{NANO} · Stopped after ")
    assert captions[1].startswith(f"{SECOND} · ")


def test_of_models_chosen_quickly_the_last_one_answers_and_no_other_stays(qtbot, window: MainWindow) -> None:
    assert window.studio.engine.state.info is not None
    others = children() - {window.studio.engine.state.info.pid}  # of other tests, whose engines live longer
    phases: list[Phase] = []
    window.studio.engine.changed.connect(lambda: phases.append(window.studio.engine.state.phase))
    for name in ("second", "nano", "second"):
        window.studio.use(name)
        qtbot.waitUntil(lambda: window.studio.engine.state.phase is Phase.LOADING, timeout=ANSWER_MS)
    window.studio.use("nano")
    ready(qtbot, window, NANO)
    assert not {Phase.FAILED, Phase.LOST, Phase.MISSING} & set(phases)
    assert window.studio.engine.state.info is not None
    assert children() - others == {window.studio.engine.state.info.pid}


def test_a_model_that_cannot_be_loaded_says_why_and_the_former_can_be_chosen(
    qtbot, window: MainWindow, home: Path, astronaut: Path
) -> None:
    open_photo(qtbot, window, astronaut)
    window.studio.ask("Is this person smiling?")
    wait_for_answers(qtbot, window)
    language = next((home / "models" / "second").glob("*q8_0.gguf"))
    whole = language.resolve().read_bytes()[:1_000_000]
    language.unlink()
    language.write_bytes(whole)
    window.studio.use("second")
    qtbot.waitUntil(lambda: window.studio.engine.state.phase is Phase.FAILED, timeout=ANSWER_MS)
    assert window.engine_notice.isVisible()
    assert language.name in window.engine_notice.text
    assert len(window.conversation.views) == 1
    QTest.mouseClick(window.strip.models, Qt.MouseButton.LeftButton)
    assert window.models.menu.isVisible()
    window.models.menu.actions()[0].trigger()
    window.models.menu.hide()
    ready(qtbot, window, NANO)
    assert not window.engine_notice.isVisible()
    window.studio.ask("Is this person wearing glasses?")
    wait_for_answers(qtbot, window)
    assert window.studio.exchanges()[1].status is Status.DONE


def test_while_the_embedded_model_is_built_another_can_be_chosen(
    qtbot, window_of: Make, make_backend: Callable[[], LocalBackend], home: Path, assets: AssetStore
) -> None:
    shutil.rmtree(home / "models" / "nano")
    add_parts(assets, home)
    window = window_of(make_backend())
    engine = window.studio.engine
    qtbot.waitUntil(lambda: engine.state.phase is Phase.MISSING, timeout=PHOTO_MS)
    engine.build()
    build = engine._build
    assert build is not None
    window.studio.use("second")
    ready(qtbot, window, SECOND)
    assert build.cancelled
    qtbot.waitUntil(lambda: build._process is None, timeout=PHOTO_MS)
    assert engine.state.phase is Phase.READY
    assert not list(home.glob("models/nano/*.gguf"))


# ---------------------------------------------------------------- the next start


def test_the_choice_is_remembered(
    qtbot, window: MainWindow, window_of: Make, make_backend: Callable[[], LocalBackend], settings: QSettings
) -> None:
    assert settings.value("model/name") is None
    window.studio.use("second")
    ready(qtbot, window, SECOND)
    window.close()
    again = window_of(make_backend())
    ready(qtbot, again, SECOND)
    assert again.studio.models.current == "second"


def test_where_the_model_is_gone_the_embedded_one_answers_and_that_is_said_once(
    qtbot, window_of: Make, make_backend: Callable[[], LocalBackend], settings: QSettings, home: Path
) -> None:
    settings.setValue("model/name", "second")
    shutil.rmtree(home / "models" / "second")
    window = window_of(make_backend())
    ready(qtbot, window, NANO)
    assert window.notice.isVisible()
    assert "There is no model called second." in window.notice.text
    assert window.notice.text.endswith("The embedded one answers instead.")
    assert not window.setup.isVisible()
    window.close()
    again = window_of(make_backend())
    ready(qtbot, again, NANO)
    assert not again.notice.isVisible()


def test_the_menu_works_while_a_model_loads(qtbot, window: MainWindow) -> None:
    window.studio.use("second")
    QTest.mouseClick(window.strip.models, Qt.MouseButton.LeftButton)
    assert window.models.menu.isVisible()
    assert QApplication.activePopupWidget() is window.models.menu
    window.models.menu.hide()
    ready(qtbot, window, SECOND)
