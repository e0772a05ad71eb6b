"""What the window decides before a question, with the real finder, child process and model, and without a widget."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from facellm.core.faces import WHOLE
from facellm.core.package import ModelPackage
from facellm.ui import words
from facellm.ui.backend import LocalBackend
from facellm.ui.presenters.engine import EngineState, Phase
from facellm.ui.presenters.photo import PhotoPresenter
from facellm.ui.presenters.studio import Studio
from facellm.ui.tasks import InlineRunner, Job, Listener, OnError, ignore
from facellm.vision.finder import FaceModels
from tests.ui.conftest import ONE_THREAD


class LaterRunner:
    """Keeps jobs until the test says which one is finished."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []

    def run(self, job: Job, on_done: Listener, on_error: OnError, on_event: Listener = ignore) -> None:
        self.jobs.append(lambda: InlineRunner().run(job, on_done, on_error, on_event))

    def close(self) -> None:
        self.jobs.clear()


def test_presenters_know_no_widget_and_nothing_heavy() -> None:
    script = "import facellm.ui.presenters.studio, sys; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=_path())
    modules = set(found.stdout.split())
    assert "PySide6.QtCore" in modules
    assert not modules & {"PySide6.QtGui", "PySide6.QtWidgets", "cv2", "mediapipe", "PIL", "llama_cpp"}


# ---------------------------------------------------------------- engine


def test_without_a_model_the_window_is_to_offer_one(no_model: LocalBackend) -> None:
    studio = Studio(no_model, InlineRunner(), InlineRunner())
    studio.engine.start()
    assert studio.engine.state.phase is Phase.MISSING
    assert studio.needs_model
    assert not studio.can_ask


def test_a_photo_can_be_looked_at_without_a_model(no_model: LocalBackend, astronaut: Path) -> None:
    studio = Studio(no_model, InlineRunner(), InlineRunner())
    studio.engine.start()
    studio.photo.open_file(astronaut)
    assert studio.photo.chosen == "A"
    assert studio.photo.tile is not None
    assert studio.photo.tile.shape == (224, 224, 3)
    studio.ask("Is this person smiling?")
    assert studio.exchanges() == ()


def test_loading_ends_with_what_was_loaded(studio: Studio) -> None:
    studio.engine.start()
    state = studio.engine.state
    assert state.phase is Phase.READY
    assert state.info is not None
    assert "CPU" in state.info.device


def test_a_damaged_model_says_why_and_is_tried_again(
    nano: ModelPackage, face_models: FaceModels, tmp_path: Path
) -> None:
    damaged = tmp_path / nano.llm.name
    damaged.write_bytes(nano.llm.read_bytes()[:100_000])
    package = ModelPackage("nano", damaged, nano.mmproj, nano.tile)
    backend = LocalBackend(package=package, face_models=face_models, options=ONE_THREAD)
    try:
        studio = Studio(backend, InlineRunner(), InlineRunner())
        studio.engine.start()
        assert studio.engine.state.phase is Phase.FAILED
        assert nano.llm.name in studio.engine.state.message
        damaged.unlink()
        damaged.symlink_to(nano.llm)
        studio.engine.restart()
        assert studio.engine.state.phase is Phase.READY
    finally:
        backend.close()


def test_a_time_left_is_only_told_when_it_can_be_known(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    from facellm.engine.protocol import Loading

    now = [100.0]
    monkeypatch.setattr("facellm.ui.presenters.engine.time.monotonic", lambda: now[0])
    states: list[EngineState] = []
    studio.engine.changed.connect(lambda: states.append(studio.engine.state))
    for seconds, fraction in ((0.0, 0.0), (0.5, 0.3), (2.0, 0.5)):
        now[0] = 100.0 + seconds
        studio.engine.loading(Loading("weights", fraction))
    assert [state.seconds_left for state in states] == [None, None, 2.0]
    now[0] = 103.0
    studio.engine.loading(Loading("vision", 0.5))  # another stage: nothing is known of it yet
    assert states[-1].seconds_left is None


def test_speed_and_time_left_of_an_import_are_those_of_its_step(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    from facellm.models.importing import ImportOrder
    from facellm.ui.importing import Import, ImportStep

    now = [100.0]
    monkeypatch.setattr("facellm.ui.presenters.importing.time.monotonic", lambda: now[0])
    importing, told = studio.importing, []
    importing._import = Import(ImportOrder("faces/tiny"))  # not run: what it would say is said here
    importing.changed.connect(
        lambda: told.append((importing.state.fraction, importing.state.bytes_per_s, importing.state.seconds_left))
    )
    steps = [(0.0, 50, "fetching"), (0.5, 60, "fetching"), (2.0, 100, "fetching"), (2.5, 0, "converting")]
    for seconds, done, step in steps:
        now[0] = 100.0 + seconds
        importing._step(ImportStep(step, done, 200))
    # The 50 bytes that an earlier attempt had left were not fetched in this one.
    assert told == [(0.25, 0.0, None), (0.3, 0.0, None), (0.5, 25.0, 4.0), (0.0, 0.0, None)]
    assert words.transfer(1_200_000_000, 5_000_000_000, 48e6, 79.2) == "1.2 GB of 5.0 GB · 48 MB/s · about 79 s left"
    assert words.transfer(0, 5_000_000_000, 0.0, None) == ""


# ---------------------------------------------------------------- photo


def test_the_first_face_is_chosen_and_its_tile_is_what_the_session_sends(studio: Studio, astronaut: Path) -> None:
    studio.photo.open_file(astronaut)
    opened = studio.photo.opened
    assert opened is not None
    assert opened.session is not None
    assert studio.photo.chosen == "A"
    assert studio.photo.tile is opened.session.tile_of("A")
    assert "512 × 512" in studio.photo_line()
    assert "1 face" in studio.photo_line()
    assert "eyes" in studio.fact_line()


def test_without_a_face_nothing_is_chosen_and_the_whole_picture_can_be(studio: Studio, scenery: Path) -> None:
    studio.photo.open_file(scenery)
    assert studio.photo.chosen is None
    assert not studio.can_ask
    studio.photo.choose_key("W")
    assert studio.photo.chosen == WHOLE
    assert studio.can_ask


def test_a_bad_photo_is_explained_and_the_old_one_stays(studio: Studio, astronaut: Path, tmp_path: Path) -> None:
    studio.photo.open_file(astronaut)
    before, said = studio.photo.opened, []
    studio.photo.failed.connect(lambda message, hint: said.append(f"{message} {hint}"))
    broken = tmp_path / "holiday.jpg"
    broken.write_bytes(b"not a photo")
    studio.photo.open_file(broken)
    assert "holiday.jpg" in said[0]
    assert studio.photo.opened is before
    assert studio.photo.opening == ""


def test_of_two_photos_opened_quickly_the_newest_stays(warm: LocalBackend, astronaut: Path, two_faces: Path) -> None:
    later = LaterRunner()
    photo = PhotoPresenter(warm, later)
    photo.open_file(astronaut)
    photo.open_file(two_faces)
    first, second = later.jobs
    second()
    first()  # decoded last, asked first
    assert photo.opened is not None
    assert Path(photo.opened.photo.name).name == two_faces.name


def test_keys_choose_faces_and_go_round(studio: Studio, two_faces: Path) -> None:
    studio.photo.open_file(two_faces)
    photo = studio.photo
    seen = []
    photo.chosen_changed.connect(lambda: seen.append(photo.chosen))
    for key in ("b", "0", "a", "w", "q"):  # there is no face Q
        photo.choose_key(key)
    photo.choose_next(1)
    photo.choose_next(-1)
    photo.choose_next(-1)
    assert seen == ["B", WHOLE, "A", WHOLE, "A", WHOLE, "B"]


def _path() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
