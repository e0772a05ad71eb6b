"""One photo, its faces, and what is asked about them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from facellm.conversation.letters import legend, to_images, to_letters
from facellm.conversation.thread import HISTORY_CHARACTERS, Exchange, turns
from facellm.core.ask import MOST_CHARACTERS, Answer, Question, Timings, Turn
from facellm.core.errors import FaceLLMError
from facellm.core.faces import WHOLE, Face, FaceBox, Photo, RgbImage, next_label
from facellm.core.policy import Verdict, judge
from facellm.core.prompt import choice_keys
from facellm.engine.protocol import AskEvent, AskRequest, Done, Token

if TYPE_CHECKING:
    from facellm.engine.client import EngineClient
    from facellm.vision.finder import FaceFinder

#: One face by its letter, the whole picture as "whole", or several faces to be asked about together.
Labels: TypeAlias = str | tuple[str, ...]
Event: TypeAlias = AskEvent

#: Training has comparisons of two and three pictures.
MOST_FACES = 4


class QuestionError(FaceLLMError):
    """The question cannot be put: it is empty, too long, its choices are wrong, or the face is not there."""


class Session:
    """Joins policy, faces, history and engine for one photo at a time.

    Nothing is written to disk. Threads are kept per photo (by its pixels) and face until they are
    forgotten, so that a photo opened again has its conversation. One question runs at a time; the
    generator of ``ask`` may be consumed in any one thread, ``client.stop()`` called from another.
    """

    def __init__(self, client: EngineClient, finder: FaceFinder | None, tile: int) -> None:
        """``tile``: side in pixels of the square that the model receives. Without a finder only "whole" exists."""
        self._client = client
        self._finder = finder
        self._tile = tile
        self._photo: Photo | None = None
        self._key = ""
        self._faces: dict[str, Face] = {}
        self._drawn: dict[str, tuple[Face, ...]] = {}
        self._tiles: dict[str, RgbImage] = {}
        self._threads: dict[tuple[str, tuple[str, ...]], list[Exchange]] = {}

    def moved(self, client: EngineClient, tile: int) -> Session:
        """A session like this over another model: photo, faces and letters, and what was asked is its context, too.

        Faces are not looked for again. What the old one still runs ends in the threads of both; faces that are
        added later are in the new one only.
        """
        session = Session(client, self._finder, tile)
        session._photo, session._key = self._photo, self._key
        session._faces, session._drawn = self._faces, self._drawn
        session._threads = self._threads
        return session

    @property
    def client(self) -> EngineClient:
        """The engine that answers."""
        return self._client

    def open(self, photo: Photo) -> list[Face]:
        """Make this the photo that is talked about, and find its faces, labelled from left to right.

        Faces that were added to it earlier follow: their threads hang on their letters, too.
        """
        faces = list(self._finder.find(photo)) if self._finder is not None else []
        self._photo = photo
        self._key = _digest(photo)
        faces += self._drawn.get(self._key, ())
        self._faces = {face.label: face for face in faces}
        self._tiles = {}
        return faces

    def add(self, box: FaceBox) -> Face:
        """The face in a box drawn by hand, in photo pixels, with the letter after the last; the others keep theirs.

        Raises ``BoxError`` for a box that cannot be a face, ``QuestionError`` without a photo or a finder.
        """
        photo = self.photo
        if self._finder is None:
            raise QuestionError("The face models are not loaded.", "Ask about the whole picture.")
        face = replace(self._finder.measure_box(photo, box), label=next_label(self._faces))
        self.restore(face)
        return face

    def restore(self, face: Face) -> None:
        """A face that was drawn on this photo before there was this session, under the letter that it has."""
        self._faces = {**self._faces, face.label: face}  # a question in another thread sees all of it or nothing
        self._drawn[self._key] = (*self._drawn.get(self._key, ()), face)

    def remove(self, label: str) -> None:
        """Take back a face that was added, with all that was asked about it; the others keep their letters.

        Raises ``QuestionError`` for a face that was found in the photo, or that is not there.
        """
        self.face(label)
        drawn = self._drawn.get(self._key, ())
        left = tuple(face for face in drawn if face.label != label)
        if left == drawn:
            raise QuestionError(f"Face {label} was not drawn by hand.", "Only faces that were added can be removed.")
        self._drawn[self._key] = left
        self._faces = {name: face for name, face in self._faces.items() if name != label}
        self._tiles.pop(label, None)  # the letter may be given again
        for key in list(self._threads):
            if key[0] == self._key and label in key[1]:
                self._threads.pop(key, None)

    @property
    def photo(self) -> Photo:
        """The open photo. Raises ``QuestionError`` when there is none."""
        if self._photo is None:
            raise QuestionError("No photo is open.", "Open a photo first.")
        return self._photo

    @property
    def labels(self) -> tuple[str, ...]:
        """What can be asked about: the faces' letters, then "whole"."""
        return (*self._faces, WHOLE) if self._photo is not None else ()

    def face(self, label: str) -> Face | None:
        """The face with this letter; ``None`` for the whole picture. Raises ``QuestionError``."""
        if label not in self.labels:
            there = ", ".join(self.labels) or "none"
            raise QuestionError(f"There is no face {label} in {self.photo.name}.", f"There are: {there}.")
        return self._faces.get(label)

    def tile_of(self, label: str) -> RgbImage:
        """Exactly what the model receives for this face or "whole", uint8 RGB ``[tile, tile, 3]``."""
        from facellm.vision.crop import face_tile, whole_tile

        face = self.face(label)
        tile = self._tiles.get(label)
        if tile is None:
            photo = self.photo
            tile = whole_tile(photo, self._tile) if face is None else face_tile(photo, face, self._tile)
            if self._faces.get(label) is face:  # else it was removed meanwhile
                self._tiles[label] = tile
        return tile

    def thread(self, label: Labels) -> tuple[Exchange, ...]:
        """Everything asked about this face (or these faces together), refusals and stopped answers included."""
        return tuple(self._threads.get((self._key, _several(label)), ()))

    def history(self, label: Labels) -> tuple[Turn, ...]:
        """What the model is given as context with the next question; see ``Exchange.turn``."""
        return turns(self.thread(label), HISTORY_CHARACTERS // len(_several(label)))

    def forget(self, label: Labels | None = None) -> None:
        """Drop the thread of this face, or without a label every thread of every photo."""
        if label is None:
            self._threads.clear()
        else:
            self._threads.pop((self._key, _several(label)), None)

    def ask(
        self, label: Labels, question: Question, max_tokens: int = 256, *, follow_up: bool = True
    ) -> Iterator[Event]:
        """Put a question and stream what comes: ``Encoded``, ``Token``…, and last ``Done``.

        With several labels the model receives their tiles in that order. A question that the policy
        does not allow yields one ``Done`` with ``finish="policy"``; the engine is not touched.
        The model is given the thread's earlier turns unless ``follow_up`` is false or the question has
        choices (a measurement that must not depend on what was asked before). Closing the iterator stops the
        answer. Raises ``QuestionError`` at once, ``EngineError`` while streaming.
        """
        labels = _several(label)
        check_question(question, labels)
        tiles = tuple(self.tile_of(name) for name in labels)
        verdict = judge(question.text, question.choices)
        thread = self._threads.setdefault((self._key, labels), [])
        if verdict.refusal:
            return _refuse(thread, labels, question, verdict)
        asked = Question(verdict.question, question.choices)
        if len(labels) > 1:
            asked = Question(to_images(asked.text, labels), tuple(to_images(c, labels) for c in asked.choices))
        history = self.history(labels) if follow_up and not question.choices else ()
        request = AskRequest(images=tiles, question=asked, history=history, max_tokens=max_tokens)
        return self._stream(thread, labels, question, verdict, request)

    def _stream(
        self, thread: list[Exchange], labels: tuple[str, ...], question: Question, verdict: Verdict, request: AskRequest
    ) -> Iterator[Event]:
        said: list[str] = []
        asked = request.question
        note = " ".join(filter(None, [verdict.note, legend(labels) if len(labels) > 1 and not asked.choices else ""]))
        finish = "stopped"  # what it is when the consumer closes this generator
        events = self._client.ask(request)
        try:
            for event in events:
                if isinstance(event, Token):
                    said.append(event.text)
                elif isinstance(event, Done):
                    answer = replace(to_letters(event.answer, asked.choices, question.choices), note=note)
                    event = replace(event, answer=answer)
                    thread.append(Exchange(labels, question, asked.text, answer, event.prompt))
                    finish = ""
                yield event
        except FaceLLMError:
            finish = "lost"
            raise
        finally:
            if finish:
                unfinished = Answer("".join(said), Timings(tokens=len(said)), finish, note=note)
                thread.append(Exchange(labels, question, asked.text, unfinished))
            close = getattr(events, "close", None)
            if close is not None:
                close()


def _refuse(thread: list[Exchange], labels: tuple[str, ...], question: Question, verdict: Verdict) -> Iterator[Event]:
    answer = Answer(verdict.refusal, Timings(), "policy")
    thread.append(Exchange(labels, question, "", answer))
    yield Done(answer=answer, prompt="")


def _several(label: Labels) -> tuple[str, ...]:
    return (label,) if isinstance(label, str) else tuple(label)


def check_question(question: Question, labels: tuple[str, ...]) -> None:
    """Raise ``QuestionError`` for a question that no photo could be asked, whatever is on it."""
    if not question.text.strip():
        raise QuestionError("The question is empty.", "Write what you want to know.")
    if len(question.text) > MOST_CHARACTERS:
        raise QuestionError(
            f"The question has {len(question.text)} characters; a model with a small context takes {MOST_CHARACTERS}.",
            "Ask in fewer words.",
        )
    if question.choices:
        try:
            choice_keys(question.choices)
        except ValueError as error:
            raise QuestionError(f"The choices cannot be used: {error}.", "Give 2 to 26 different choices.") from error
    if len(set(labels)) != len(labels) or not 1 <= len(labels) <= MOST_FACES:
        raise QuestionError(
            f"A question takes 1 to {MOST_FACES} different faces, got {', '.join(labels) or 'none'}.",
            "Name each face once.",
        )


def _digest(photo: Photo) -> str:
    """The photo by its pixels, so that the same picture under another name keeps its thread."""
    digest = hashlib.blake2b(repr(photo.pixels.shape).encode(), digest_size=16)
    digest.update(photo.pixels.data)
    return digest.hexdigest()
