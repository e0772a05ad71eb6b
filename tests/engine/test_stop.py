"""Stop: at once, whatever the child is doing, and the processor is free again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from facellm.core.ask import Question
from facellm.core.faces import RgbImage
from facellm.engine.client import EngineClient
from facellm.engine.errors import EngineError
from facellm.engine.protocol import AskRequest, Done, Encoded, Token
from tests.engine.asking import STOP_BOUND_S, Asking, child_is_idle, essay, hello, stop_and_time
from tests.engine.effort import effort, effort_of_an_essay


def test_stop_ends_a_running_answer_and_frees_the_processor(client: EngineClient) -> None:
    whole = effort_of_an_essay(client)
    asking = Asking(client, essay())
    for _ in range(4):
        asking.wait_for(Token)
    begun = effort(client)
    done, seconds = stop_and_time(client, asking)
    assert done.answer.finish == "stopped"
    assert done.answer.text
    assert seconds < STOP_BOUND_S
    assert child_is_idle(client)
    assert effort(client) - begun < whole / 2


def test_stop_ends_an_encode_and_frees_the_processor(client: EngineClient, fresh_face: Callable[[], RgbImage]) -> None:
    many = tuple(fresh_face() for _ in range(8))
    asking = Asking(client, essay(many))
    time.sleep(0.1)  # eight encodes take seconds: this is in the midst of them
    done, seconds = stop_and_time(client, asking)
    assert done.answer.finish == "stopped"
    assert seconds < STOP_BOUND_S
    assert child_is_idle(client)
    # What the stopped encode left behind is whole: the next question about the first face is answered.
    *_, done_again = client.ask(AskRequest(many[:1], Question("Is this a face?"), max_tokens=2))
    assert isinstance(done_again, Done)
    assert done_again.answer.finish == "length"


def test_an_encode_after_a_stopped_one_gives_the_same_answer(
    client: EngineClient, fresh_face: Callable[[], RgbImage], faces: tuple[RgbImage, ...]
) -> None:
    face = fresh_face()
    question = Question("Is the person smiling?", ("yes", "no"))
    asking = Asking(client, essay((face, fresh_face())))
    time.sleep(0.1)
    stop_and_time(client, asking)
    after_stop = client.choose((face,), [question])[0]
    client.choose(faces[:1], [question])
    with EngineClient(client.package, client.options) as other:
        assert other.choose((face,), [question])[0].choices == after_stop.choices


def test_stop_ends_the_reading_of_a_long_prompt(client: EngineClient, faces: tuple[RgbImage, ...]) -> None:
    long = Question("Tell me of the sea and of the wind. " * 160)
    list(client.ask(AskRequest(faces[:1], Question("Hello"), max_tokens=1)))
    asking = Asking(client, AskRequest(faces[:1], long, max_tokens=64))
    asking.wait_for(Encoded)
    time.sleep(0.1)
    done, seconds = stop_and_time(client, asking)
    assert done.answer.finish == "stopped"
    assert done.answer.timings.tokens == 0
    assert seconds < STOP_BOUND_S
    assert child_is_idle(client)


def test_stop_ends_closed_questions(client: EngineClient, fresh_face: Callable[[], RgbImage]) -> None:
    threading.Timer(0.2, client.stop).start()
    with pytest.raises(EngineError, match="stopped"):
        client.choose(tuple(fresh_face() for _ in range(8)), [Question("Is this a face?", ("yes", "no"))] * 20)
    hello(client)


def test_stop_while_the_model_is_loading(own_client: EngineClient) -> None:
    asking = Asking(own_client, essay())
    while own_client.pid is None:
        time.sleep(0.01)
    done, seconds = stop_and_time(own_client, asking)
    assert done.answer.finish == "stopped"
    assert seconds < STOP_BOUND_S
    pid = own_client.pid
    hello(own_client)
    assert own_client.pid == pid  # what was loaded meanwhile is used


def test_stop_does_not_end_a_load_that_was_asked_for_itself(own_client: EngineClient) -> None:
    timer = threading.Timer(0.05, own_client.stop)
    timer.start()
    assert own_client.load().pid == own_client.pid
    timer.join()
    hello(own_client)


def test_close_ends_a_load(own_client: EngineClient) -> None:
    def close_when_started() -> None:
        while own_client.pid is None:
            time.sleep(0.002)
        own_client.close()

    closer = threading.Thread(target=close_when_started)
    closer.start()
    with pytest.raises(EngineError, match="closed while it was loading"):
        own_client.load()
    closer.join()
    hello(own_client)


def test_stop_without_a_question_does_nothing(client: EngineClient, own_client: EngineClient) -> None:
    own_client.stop()
    assert own_client.pid is None  # nothing was started for it
    pid = client.pid
    assert pid is not None
    client.stop()
    hello(client)
    assert client.pid == pid


def test_a_stop_does_not_reach_the_next_question(client: EngineClient) -> None:
    asking = Asking(client, essay())
    asking.wait_for(Token)
    client.stop()
    client.stop()
    *_, done = client.ask(AskRequest((), Question("Count to nine."), max_tokens=5))
    assert isinstance(done, Done)
    assert done.answer.finish != "stopped"
    asking.rest()


def test_closing_the_answer_early_leaves_the_engine_usable(client: EngineClient) -> None:
    whole = effort_of_an_essay(client)
    answer = client.ask(essay())
    next(answer)
    begun = effort(client)
    answer.close()
    assert child_is_idle(client)
    assert effort(client) - begun < whole / 2
    hello(client)


def test_an_answer_forgotten_by_everyone_ends(client: EngineClient) -> None:
    whole = effort_of_an_essay(client)
    answer = client.ask(essay())
    next(answer)
    begun = effort(client)
    del answer
    assert child_is_idle(client)
    assert effort(client) - begun < whole / 2
    hello(client)
