"""A conversation about a real photo with the real engine in its child process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from facellm.conversation.session import QuestionError, Session
from facellm.core.ask import Answer, Question
from facellm.core.faces import Photo
from facellm.core.package import ModelPackage
from facellm.engine.client import EngineClient
from facellm.engine.errors import EngineDied
from facellm.engine.protocol import AskEvent, Done, Encoded, Token
from facellm.vision.finder import FaceFinder

HAIR = Question("Describe the face and hair.")


@pytest.fixture(scope="module")
def client(nano: ModelPackage) -> Iterator[EngineClient]:
    with EngineClient(nano) as client:
        yield client


@pytest.fixture
def session(client: EngineClient, finder: FaceFinder, nano: ModelPackage, portrait: Photo) -> Session:
    session = Session(client, finder, nano.tile)
    session.open(portrait)
    return session


@pytest.fixture
def two(client: EngineClient, finder: FaceFinder, nano: ModelPackage, portrait: Photo) -> Session:
    """The astronaut beside her mirror image."""
    session = Session(client, finder, nano.tile)
    session.open(Photo("twice", np.ascontiguousarray(np.hstack([portrait.pixels, portrait.pixels[:, ::-1]]))))
    return session


def answer_of(events: Iterator[AskEvent]) -> Answer:
    return done_of(list(events)).answer


def done_of(events: list[AskEvent]) -> Done:
    assert isinstance(events[-1], Done)
    assert sum(isinstance(event, Done) for event in events) == 1
    return events[-1]


def test_an_answer_streams_and_is_kept_with_what_the_model_received(session: Session) -> None:
    events = list(session.ask("A", HAIR, 12))
    done = done_of(events)
    assert isinstance(events[0], Encoded)
    assert "".join(event.text for event in events if isinstance(event, Token)).strip() == done.answer.text.strip()
    (exchange,) = session.thread("A")
    assert exchange.answer == done.answer
    assert exchange.question == HAIR
    assert exchange.prompt == done.prompt
    assert HAIR.text in exchange.prompt
    assert exchange.answer.timings.tokens > 0


def test_a_second_question_encodes_nothing_and_is_told_the_first(session: Session) -> None:
    before, *_, first = session.ask("A", HAIR, 8)
    assert isinstance(before, Encoded)
    assert isinstance(first, Done)
    events = list(session.ask("A", Question("Describe the head pose."), 8))
    assert events[0] == Encoded(0.0, before.image_tokens, cached=True, encodes=before.encodes)
    assert HAIR.text in done_of(events).prompt
    assert first.answer.text.strip() in done_of(events).prompt
    assert [turn.question for turn in session.history("A")] == [HAIR.text, "Describe the head pose."]


def test_without_follow_up_a_question_stands_alone(session: Session) -> None:
    alone = answer_of(session.ask("A", Question("Is there a hat?"), 8, follow_up=False))
    answer_of(session.ask("A", HAIR, 8, follow_up=False))
    again = list(session.ask("A", Question("Is there a hat?"), 8, follow_up=False))
    assert HAIR.text not in done_of(again).prompt
    assert done_of(again).answer.text == alone.text
    assert len(session.thread("A")) == 3


def test_each_face_has_its_own_thread(two: Session) -> None:
    assert two.labels == ("A", "B", "whole")
    answer_of(two.ask("A", HAIR, 4))
    assert HAIR.text not in done_of(list(two.ask("B", Question("Is there a hat?"), 4))).prompt
    assert [exchange.question.text for exchange in two.thread("B")] == ["Is there a hat?"]


def test_choices_are_measured_without_history_and_leave_none(session: Session) -> None:
    answer_of(session.ask("A", HAIR, 8))
    events = list(session.ask("A", Question("Is there a hat?", ("yes", "no"))))
    answer = done_of(events).answer
    assert HAIR.text not in done_of(events).prompt
    assert answer.text in ("yes", "no")
    assert sum(choice.p for choice in answer.choices) == pytest.approx(1, abs=1e-3)
    assert [turn.question for turn in session.history("A")] == [HAIR.text]


def test_a_refused_question_never_reaches_the_engine(nano: ModelPackage, finder: FaceFinder, portrait: Photo) -> None:
    with EngineClient(nano) as client:
        session = Session(client, finder, nano.tile)
        session.open(portrait)
        answer = answer_of(session.ask("A", Question("What race is this person?")))
        assert answer.finish == "policy"
        assert "does not infer" in answer.text
        assert not client.alive
    assert session.thread("A")[0].answer == answer
    assert session.history("A") == ()


def test_a_feeling_is_turned_noted_and_remembered_as_it_was_asked(session: Session) -> None:
    done = done_of(list(session.ask("A", Question("Is she happy?"), 8)))
    assert "movement, not feelings" in done.answer.note
    assert "Describe the visible expression." in done.prompt
    assert "happy?" not in done.prompt
    assert session.thread("A")[0].question.text == "Is she happy?"
    assert session.thread("A")[0].answer.note == done.answer.note
    assert session.history("A")[0].question == "Describe the visible expression."


def test_closing_the_stream_stops_and_keeps_what_was_said(session: Session) -> None:
    events = session.ask("A", Question("Describe this picture."), 200)
    said = ""
    for event in events:
        if isinstance(event, Token):
            said += event.text
            if said.strip():
                break
    events.close()  # type: ignore[attr-defined]
    (exchange,) = session.thread("A")
    assert (exchange.answer.finish, exchange.answer.text) == ("stopped", said)
    assert session.history("A")[0].answer == said
    assert answer_of(session.ask("A", HAIR, 4)).text


def test_stopping_from_another_thread_ends_the_stream_with_a_marked_answer(
    session: Session, client: EngineClient
) -> None:
    events = []
    for event in session.ask("A", Question("Describe this picture."), 200):
        events.append(event)
        if len(events) == 3:
            threading.Thread(target=client.stop).start()
    assert done_of(events).answer.finish == "stopped"
    assert session.thread("A")[0].answer.finish == "stopped"


def test_a_killed_engine_is_an_error_and_the_next_question_has_a_fresh_one(
    nano: ModelPackage, finder: FaceFinder, portrait: Photo
) -> None:
    with EngineClient(nano) as client:
        session = Session(client, finder, nano.tile)
        session.open(portrait)
        events = session.ask("A", Question("Describe this picture."), 200)
        next(event for event in events if isinstance(event, Token))
        killed = client.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        with pytest.raises(EngineDied):
            list(events)
        assert session.thread("A")[0].answer.finish == "lost"
        assert session.history("A") == ()
        assert answer_of(session.ask("A", HAIR, 4)).text
        assert client.pid != killed


def test_faces_are_compared_as_numbered_pictures(two: Session) -> None:
    events = list(two.ask(("A", "B"), Question("Which person looks older?", ("A", "B"))))
    done = done_of(events)
    assert events[0].image_tokens == 2 * IMAGE_TOKENS  # type: ignore[union-attr]
    assert "A) Image 1\nB) Image 2" in done.prompt
    assert done.answer.text in ("A", "B")
    assert [choice.text for choice in done.answer.choices] == ["A", "B"]
    free = answer_of(two.ask(("A", "B"), Question("Is A smiling more than B?"), 6))
    assert free.note == "Image 1 is face A, Image 2 is face B."
    assert len(two.thread(("A", "B"))) == 2
    assert two.thread("A") == ()


def test_a_photo_opened_again_has_its_threads_until_they_are_forgotten(session: Session, portrait: Photo) -> None:
    answer_of(session.ask("A", HAIR, 4))
    answer_of(session.ask("whole", HAIR, 4))
    session.open(Photo("other", np.ascontiguousarray(portrait.pixels[:, ::-1])))
    assert session.thread("A") == ()
    session.open(Photo("same under another name", portrait.pixels.copy()))
    assert [len(session.thread(label)) for label in ("A", "whole")] == [1, 1]
    session.forget("A")
    assert [len(session.thread(label)) for label in ("A", "whole")] == [0, 1]
    session.forget()
    assert len(session.thread("whole")) == 0


def test_the_tile_is_what_the_model_receives_and_made_once(session: Session, nano: ModelPackage) -> None:
    for label in ("A", "whole"):
        tile = session.tile_of(label)
        assert (tile.shape, tile.dtype.name) == ((nano.tile, nano.tile, 3), "uint8")
        assert session.tile_of(label) is tile
    assert not np.array_equal(session.tile_of("A"), session.tile_of("whole"))


def test_without_a_finder_there_is_the_whole_picture_only(
    client: EngineClient, nano: ModelPackage, portrait: Photo
) -> None:
    session = Session(client, None, nano.tile)
    assert not session.labels
    assert session.open(portrait) == []
    assert session.labels == ("whole",)
    assert answer_of(session.ask("whole", HAIR, 4)).text


@pytest.mark.parametrize(
    ("label", "question", "says"),
    [
        ("C", HAIR, "no face C"),
        ("A", Question(" "), "empty"),
        ("A", Question("x" * 2001), "2001 characters"),
        ("A", Question("Which?", ("yes",)), "2 to 26"),
        (("A", "A"), HAIR, "different faces"),
        ((), HAIR, "different faces"),
    ],
)
def test_what_cannot_be_asked_says_why_before_anything_streams(
    session: Session, label: str, question: Question, says: str
) -> None:
    with pytest.raises(QuestionError, match=says) as caught:
        session.ask(label, question)
    assert caught.value.hint


def test_without_a_photo_nothing_can_be_asked(client: EngineClient, finder: FaceFinder) -> None:
    with pytest.raises(QuestionError, match="No photo"):
        Session(client, finder, 224).tile_of("whole")


#: The nano has 49 image tokens a picture.
IMAGE_TOKENS = 49
