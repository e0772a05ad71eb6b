"""What the window decides, with the real finder, session, child process and model, and without a widget."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from facellm.core.aspects import ASPECTS
from facellm.core.faces import WHOLE
from facellm.core.package import ModelPackage
from facellm.ui.backend import LocalBackend
from facellm.ui.presenters.conversation import Exchange, Status
from facellm.ui.presenters.engine import EngineState, Phase
from facellm.ui.presenters.photo import PhotoPresenter
from facellm.ui.presenters.studio import Studio
from facellm.ui.tasks import InlineRunner, Job, Listener, OnError, PoolRunner, ignore
from facellm.vision.finder import FaceModels
from tests.ui.conftest import ANSWER_MS, ONE_THREAD

LONG_QUESTION = ASPECTS[-1].question


class LaterRunner:
    """Keeps jobs until the test says which one is finished."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []

    def run(self, job: Job, on_done: Listener, on_error: OnError, on_event: Listener = ignore) -> None:
        self.jobs.append(lambda: InlineRunner().run(job, on_done, on_error, on_event))

    def close(self) -> None:
        self.jobs.clear()


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


@pytest.fixture
def busy_studio(warm: LocalBackend, qtbot) -> Iterator[Studio]:
    """As in the window: one thread for the engine, others for photos."""
    lane, pool = PoolRunner(1), PoolRunner(2)
    yield Studio(warm, lane, pool)
    warm.stop()
    lane.close()
    pool.close()


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


# ---------------------------------------------------------------- conversation


def test_an_answer_streams_and_says_what_the_model_received(studio: Studio, astronaut: Path) -> None:
    studio.photo.open_file(astronaut)
    lengths, statuses = [], []

    def hear(exchange: Exchange) -> None:
        lengths.append(len(exchange.text))
        statuses.append(exchange.status)

    studio.conversation.exchange_changed.connect(hear)
    studio.ask("  Is this person smiling?  ")
    exchange = studio.exchanges()[0]
    assert exchange.status in (Status.DONE, Status.LENGTH)
    assert exchange.question == "Is this person smiling?"
    assert exchange.answer is not None
    assert exchange.text == exchange.answer.text != ""
    assert "Is this person smiling?" in exchange.prompt
    assert exchange.answer.timings.image_tokens == 49
    assert statuses[:3] == [Status.LOOKING, Status.THINKING, Status.ANSWERING]
    assert lengths[:-1] == sorted(lengths[:-1])
    assert studio.received() is exchange


def test_the_next_question_keeps_the_thread_and_reads_the_picture_no_more(studio: Studio, astronaut: Path) -> None:
    studio.photo.open_file(astronaut)
    studio.ask("Is this person wearing glasses?")
    studio.ask("Is this person smiling?")
    first, second = studio.exchanges()
    assert second.image_cached
    assert second.answer is not None
    assert second.answer.timings.encode_s == 0.0
    assert "Is this person wearing glasses?" in second.prompt
    assert first.text in second.prompt


def test_each_face_has_its_own_conversation(studio: Studio, two_faces: Path) -> None:
    studio.photo.open_file(two_faces)
    studio.ask("Is this person smiling?")
    studio.photo.choose("B")
    assert studio.exchanges() == ()
    assert studio.received() is None
    studio.ask("Is this person wearing glasses?")
    assert [exchange.question for exchange in studio.exchanges()] == ["Is this person wearing glasses?"]
    assert "smiling" not in studio.exchanges()[0].prompt
    studio.photo.choose("A")
    assert [exchange.question for exchange in studio.exchanges()] == ["Is this person smiling?"]


def test_what_the_policy_does_not_answer_is_explained(studio: Studio, astronaut: Path) -> None:
    studio.photo.open_file(astronaut)
    studio.ask("What is her ethnicity?")
    exchange = studio.exchanges()[0]
    assert exchange.status is Status.REFUSED
    assert "ethnicity" in exchange.text
    assert exchange.prompt == ""
    assert studio.received() is None


def test_a_question_about_feelings_is_answered_with_a_note(studio: Studio, astronaut: Path) -> None:
    studio.photo.open_file(astronaut)
    studio.ask("Does she feel happy?")
    exchange = studio.exchanges()[0]
    assert "movement" in exchange.note
    assert "happy" not in exchange.prompt


def test_a_question_that_is_too_long_is_explained(studio: Studio, astronaut: Path) -> None:
    studio.photo.open_file(astronaut)
    studio.ask("Why? " * 1000)
    exchange = studio.exchanges()[0]
    assert exchange.status is Status.FAILED
    assert "4999" in exchange.error
    assert studio.engine.state.phase is not Phase.LOST


def test_an_empty_question_is_not_asked(studio: Studio, astronaut: Path) -> None:
    studio.photo.open_file(astronaut)
    studio.ask("   ")
    assert studio.exchanges() == ()


def test_stop_keeps_the_words_and_drops_what_waits(busy_studio: Studio, qtbot, astronaut: Path) -> None:
    studio = busy_studio
    _open(studio, qtbot, astronaut)
    studio.ask(LONG_QUESTION)
    studio.ask("Is this person smiling?")
    running, waiting = studio.exchanges()
    qtbot.waitUntil(lambda: running.tokens >= 2, timeout=ANSWER_MS)
    studio.conversation.stop()
    assert waiting.status is Status.STOPPED
    qtbot.waitUntil(lambda: not running.running, timeout=1000)
    assert running.status is Status.STOPPED
    assert running.text
    qtbot.wait(50)
    assert waiting.tokens == 0


def test_another_photo_stops_the_answer_and_empties_the_threads(
    busy_studio: Studio, qtbot, astronaut: Path, two_faces: Path
) -> None:
    studio = busy_studio
    _open(studio, qtbot, astronaut)
    studio.ask(LONG_QUESTION)
    (running,) = studio.exchanges()
    qtbot.waitUntil(lambda: running.tokens >= 1, timeout=ANSWER_MS)
    _open(studio, qtbot, two_faces)
    qtbot.waitUntil(lambda: not running.running, timeout=1000)
    assert studio.exchanges() == ()
    assert studio.conversation.running == ()


def test_a_killed_engine_is_told_and_the_next_question_starts_another(
    busy_studio: Studio, qtbot, astronaut: Path
) -> None:
    studio = busy_studio
    studio.engine.start()
    _open(studio, qtbot, astronaut)
    qtbot.waitUntil(lambda: studio.engine.state.phase is Phase.READY, timeout=ANSWER_MS)
    info = studio.engine.state.info
    assert info is not None
    studio.ask(LONG_QUESTION)
    lost = studio.exchanges()[0]
    qtbot.waitUntil(lambda: lost.tokens >= 1, timeout=ANSWER_MS)
    psutil.Process(info.pid).kill()
    qtbot.waitUntil(lambda: studio.engine.state.phase is Phase.LOST, timeout=5000)
    assert lost.status is Status.FAILED
    assert lost.text
    assert studio.engine.state.message
    studio.ask("Is this person smiling?")
    again = studio.exchanges()[1]
    qtbot.waitUntil(lambda: not again.running, timeout=ANSWER_MS)
    assert again.status in (Status.DONE, Status.LENGTH)
    assert studio.engine.state.phase is Phase.READY
    assert studio.engine.state.info is not None
    assert studio.engine.state.info.pid != info.pid


def _open(studio: Studio, qtbot, path: Path) -> None:
    with qtbot.waitSignal(studio.photo.opened_changed, timeout=30_000):
        studio.photo.open_file(path)


def _path() -> dict[str, str]:
    import os

    return os.environ | {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
