"""A face added by a box drawn by hand gets the next letter and its own thread; the others keep theirs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from facellm.conversation.session import QuestionError, Session
from facellm.core.ask import Question
from facellm.core.faces import FaceBox, Photo
from facellm.core.package import ModelPackage
from facellm.engine.client import EngineClient
from facellm.vision.finder import BoxError, FaceFinder

REFUSED = Question("Who is this?")  # answered by the policy: no engine is needed to have a thread
LEFT, RIGHT = FaceBox(20, 250, 100, 120, 1.0), FaceBox(380, 20, 100, 120, 1.0)


@pytest.fixture
def client(nano: ModelPackage) -> Iterator[EngineClient]:
    with EngineClient(nano) as client:
        yield client


@pytest.fixture
def session(client: EngineClient, finder: FaceFinder, nano: ModelPackage, portrait: Photo) -> Session:
    session = Session(client, finder, nano.tile)
    session.open(portrait)
    return session


def asked(session: Session, label: str) -> int:
    return len(session.thread(label))


def test_letters_and_threads_stay_where_they_are(session: Session) -> None:
    list(session.ask("A", REFUSED))
    tile = session.tile_of("A")
    assert session.add(LEFT).label == "B"  # left of A: the letter is the next one all the same
    assert session.add(RIGHT).label == "C"
    assert session.labels == ("A", "B", "C", "whole")
    assert session.tile_of("A") is tile
    assert [asked(session, label) for label in session.labels] == [1, 0, 0, 0]
    box = session.face("B")
    assert box is not None
    assert (box.box.x, box.box.y) == (20, 250)


def test_a_drawn_face_is_asked_about_like_any_other(session: Session, nano: ModelPackage) -> None:
    session.add(RIGHT)
    assert session.tile_of("B").shape == (nano.tile, nano.tile, 3)
    *_, done = session.ask("B", Question("Is there a hat?", ("yes", "no")))
    assert done.answer.text in ("yes", "no")  # type: ignore[union-attr]
    assert asked(session, "B") == 1


def test_a_photo_opened_again_has_its_drawn_faces_with_their_threads(session: Session, portrait: Photo) -> None:
    session.add(LEFT)
    list(session.ask("B", REFUSED))
    session.open(Photo("other", np.ascontiguousarray(portrait.pixels[:, ::-1])))
    assert session.labels == ("A", "whole")
    assert [face.label for face in session.open(portrait)] == ["A", "B"]
    assert asked(session, "B") == 1
    assert session.add(RIGHT).label == "C"


def test_what_was_added_can_be_removed_with_all_that_was_asked_about_it(session: Session) -> None:
    for box in (LEFT, RIGHT):
        session.add(box)
    for labels in ("A", "B", "C", ("A", "B")):
        list(session.ask(labels, REFUSED))
    tile = session.tile_of("B")
    session.remove("B")
    assert session.labels == ("A", "C", "whole")
    assert [asked(session, "A"), asked(session, "B"), asked(session, "C")] == [1, 0, 1]
    assert session.thread(("A", "B")) == ()
    session.remove("C")
    assert session.add(RIGHT).label == "B"  # the letter is given again, what belonged to it is not
    assert asked(session, "B") == 0
    assert not np.array_equal(session.tile_of("B"), tile)


def test_letters_are_in_order_after_one_was_removed(session: Session, portrait: Photo) -> None:
    for box in (LEFT, RIGHT):
        session.add(box)
    session.remove("B")
    assert session.add(LEFT).label == "D"
    assert [face.label for face in session.open(portrait)] == ["A", "C", "D"]


def test_a_face_that_was_found_or_is_not_there_cannot_be_removed(session: Session) -> None:
    for label in ("A", "whole"):
        with pytest.raises(QuestionError, match="not drawn"):
            session.remove(label)
    with pytest.raises(QuestionError, match="no face B"):
        session.remove("B")
    assert session.labels == ("A", "whole")


def test_a_face_drawn_before_keeps_its_letter(session: Session, portrait: Photo) -> None:
    face = replace(session.add(LEFT), label="D")
    session.remove("B")
    session.restore(face)
    assert session.face("D") is face
    session.remove("D")
    assert session.labels == ("A", "whole")


def test_a_session_moves_on_to_another_model_with_all_that_it_knows(session: Session, nano: ModelPackage) -> None:
    session.add(RIGHT)
    list(session.ask("B", REFUSED))
    before = session.tile_of("B")
    with EngineClient(nano) as client:  # not started: nothing is asked
        moved = session.moved(client, 2 * nano.tile)
        assert moved.client is client
        assert moved.labels == session.labels
        assert moved.face("B") is session.face("B")
        assert moved.thread("B") == session.thread("B")
        assert moved.tile_of("B").shape == (2 * nano.tile, 2 * nano.tile, 3)
        assert session.tile_of("B") is before
        assert moved.add(LEFT).label == "C"
        moved.remove("B")
        assert moved.labels == ("A", "C", "whole")
        assert moved.open(session.photo)[1:] == [moved.face("C")]


def test_a_box_that_is_no_face_leaves_everything_as_it_was(session: Session) -> None:
    with pytest.raises(BoxError):
        session.add(FaceBox(9, 9, 3, 3, 1.0))
    assert session.labels == ("A", "whole")


def test_without_photo_or_finder_there_is_nothing_to_add_to(
    client: EngineClient, finder: FaceFinder, portrait: Photo
) -> None:
    with pytest.raises(QuestionError, match="No photo"):
        Session(client, finder, 224).add(LEFT)
    blind = Session(client, None, 224)
    blind.open(portrait)
    with pytest.raises(QuestionError, match="not loaded"):
        blind.add(LEFT)
