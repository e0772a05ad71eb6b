"""Questions and answers as the window keeps them: real finder, session, child process and model, and no widget."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from facellm.core.aspects import ASPECTS
from facellm.ui.backend import LocalBackend
from facellm.ui.presenters.conversation import Exchange, Status
from facellm.ui.presenters.engine import Phase
from facellm.ui.presenters.studio import Studio
from facellm.ui.tasks import PoolRunner
from tests.ui.conftest import ANSWER_MS

LONG_QUESTION = ASPECTS[-1].question


@pytest.fixture
def busy_studio(warm: LocalBackend, qtbot) -> Iterator[Studio]:
    """As in the window: one thread for the engine, others for photos."""
    lane, pool = PoolRunner(1), PoolRunner(2)
    yield Studio(warm, lane, pool)
    warm.stop()
    lane.close()
    pool.close()


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
