"""Jobs run in their pool, and what they give arrives in the thread that asked, in order."""

from __future__ import annotations

import threading

import pytest

from facellm.core.errors import FaceLLMError
from facellm.ui.tasks import Emit, InlineRunner, PoolRunner, ignore


def fail(error: FaceLLMError) -> None:
    raise AssertionError(error)


def test_events_come_before_the_result_and_in_the_gui_thread(qtbot) -> None:
    runner, heard, threads = PoolRunner(1), [], set()

    def job(emit: Emit) -> str:
        threads.add(threading.get_ident())
        for number in range(5):
            emit(number)
        return "done"

    def hear(what: object) -> None:
        heard.append((what, threading.get_ident()))

    runner.run(job, hear, fail, hear)
    qtbot.waitUntil(lambda: len(heard) == 6)
    here = threading.get_ident()
    assert heard == [(what, here) for what in (0, 1, 2, 3, 4, "done")]
    assert here not in threads
    runner.close()


def test_one_thread_runs_jobs_in_the_order_asked(qtbot) -> None:
    runner, done = PoolRunner(1), []
    for number in range(20):
        runner.run(lambda _, number=number: number, done.append, fail)
    qtbot.waitUntil(lambda: len(done) == 20)
    assert done == list(range(20))
    runner.close()


def test_an_error_for_the_user_arrives_as_it_was_raised(qtbot) -> None:
    runner, errors = PoolRunner(1), []

    def job(_: Emit) -> None:
        raise FaceLLMError("The photo is empty.", "Choose another.")

    runner.run(job, ignore, errors.append)
    qtbot.waitUntil(lambda: bool(errors))
    assert (str(errors[0]), errors[0].hint) == ("The photo is empty.", "Choose another.")
    runner.close()


def test_an_unforeseen_error_becomes_a_sentence_and_a_line_in_the_log(qtbot, caplog: pytest.LogCaptureFixture) -> None:
    runner, errors = PoolRunner(1), []
    runner.run(lambda _: 1 // 0, ignore, errors.append)
    qtbot.waitUntil(lambda: bool(errors))
    assert "division" in str(errors[0])
    assert "ZeroDivisionError" in caplog.text
    runner.close()


def test_nothing_is_delivered_after_close(qtbot) -> None:
    runner, heard, begun = PoolRunner(1), [], threading.Event()

    def job(emit: Emit) -> str:
        begun.set()
        emit("event")
        return "done"

    runner.run(job, heard.append, fail, heard.append)
    begun.wait(5)
    runner.close()
    qtbot.wait(20)
    assert heard == []


def test_the_synchronous_stand_in_behaves_the_same() -> None:
    heard, errors = [], []
    InlineRunner().run(lambda emit: [emit(1), emit(2), "done"][-1], heard.append, fail, heard.append)
    InlineRunner().run(lambda _: 1 // 0, heard.append, errors.append)
    assert heard == [1, 2, "done"]
    assert "division" in str(errors[0])
