"""From a checked request to the parts of an answer: pictures to tiles, policy, the engine."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from facellm.core.ask import Answer, Question
from facellm.core.faces import Photo, RgbImage
from facellm.core.policy import Verdict, judge
from facellm.engine.protocol import AskRequest, Done, Likely, Token
from facellm.server.errors import ApiError, ClientGone
from facellm.server.fields import Field
from facellm.server.request import ChatRequest
from facellm.server.stops import Stops

if TYPE_CHECKING:
    from facellm.engine.client import EngineClient
    from facellm.vision.finder import FaceFinder


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of the answer as it comes; ``token`` where log-probabilities are wanted."""

    text: str
    token: Token | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """``finish`` in OpenAI's words. ``more``: what only this server says (probabilities, notes)."""

    finish: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    more: dict[str, Any] = field(default_factory=dict)


Part: TypeAlias = Piece | Ended
_FINISH = {"end": "stop", "length": "length"}


class Chat:
    """Answers requests through one engine. ``tiles`` and ``refused`` may run in any thread, ``answer`` in one."""

    def __init__(self, client: EngineClient, open_finder: Callable[[], FaceFinder]) -> None:
        """``open_finder`` is called when the first client asks for a face."""
        self._client = client
        self._open_finder = open_finder
        self._finder: FaceFinder | None = None
        self._resources = ExitStack()
        # One at a time: a large photo takes a gigabyte while it is decoded.
        self._preparing = threading.Lock()

    def close(self) -> None:
        with self._preparing:
            self._resources.close()

    def tiles(self, request: ChatRequest) -> tuple[RgbImage, ...]:
        """What the model sees, uint8 RGB ``[tile, tile, 3]`` a picture. Raises ``PhotoError`` or ``ApiError``."""
        from facellm.vision.decode import photo_from_bytes

        tiles = []
        for number, data in enumerate(request.talk.pictures, 1):
            with self._preparing:
                tiles.append(self._tile(photo_from_bytes(data, f"Picture {number}"), request.face))
        return tuple(tiles)

    def _tile(self, photo: Photo, face: str) -> RgbImage:
        from facellm.vision.crop import face_tile, whole_tile

        side = self._client.package.tile
        if face == "whole":
            return whole_tile(photo, side)
        if self._finder is None:
            self._finder = self._resources.enter_context(self._open_finder())
        found = self._finder.find(photo)
        if not found:
            raise ApiError(
                f"No face was found in {photo.name}.",
                'Leave out "face" to ask about the whole picture.',
                code="no_face",
                param="facellm.face",
            )
        return face_tile(photo, max(found, key=lambda one: one.box.w * one.box.h), side)

    def refused(self, request: ChatRequest) -> tuple[Part, ...]:
        """The whole answer where the policy gives it instead of the model; nothing else."""
        for _, verdict in _judged(request):
            if verdict.refusal:
                return Piece(verdict.refusal), Ended("content_filter", more={"topic": verdict.topic})
        return ()

    def answer(self, request: ChatRequest, tiles: tuple[RgbImage, ...]) -> Generator[Part, None, None]:
        """``Piece``s and last ``Ended``. Closing the generator stops the engine.

        Raises the engine's errors, and ``ClientGone`` when the engine was stopped from outside.
        """
        if request.fields:
            yield from self._closed(request, tiles)
        else:
            yield from self._free(request, tiles)

    def _free(self, request: ChatRequest, tiles: tuple[RgbImage, ...]) -> Generator[Part, None, None]:
        ((_, verdict),) = _judged(request)
        stops = Stops(request.stop)
        events = self._client.ask(
            AskRequest(
                tiles, Question(verdict.question), request.talk.history, request.max_tokens, request.temperature,
                request.seed, request.talk.system, request.stop, max(0, request.top),
            )
        )  # fmt: skip
        try:
            for event in events:
                if isinstance(event, Token):
                    yield Piece(stops.add(event.text), event if request.top >= 0 else None)
                elif isinstance(event, Done):
                    yield Piece(stops.rest())
                    yield _ended(event.answer, _more(verdict))
        finally:
            events.close()

    def _closed(self, request: ChatRequest, tiles: tuple[RgbImage, ...]) -> Generator[Part, None, None]:
        answers = [self._choice(request, tiles, one, verdict) for one, verdict in _judged(request)]
        verdict = next((verdict for _, verdict in _judged(request) if verdict.note), Verdict(""))
        more = _more(verdict)
        rows = {one.name: _probabilities(answer) for one, answer in zip(request.fields, answers, strict=True)}
        if list(rows) == [""]:
            more["choices"] = rows[""]
        else:
            more["fields"] = rows
        token = _as_token(answers[0], request.top) if len(answers) == 1 and request.top >= 0 else None
        yield Piece(_content(request.fields, answers), token)
        prompt = sum(answer.timings.prompt_tokens for answer in answers)
        yield Ended("stop", prompt, len(answers), more)

    def _choice(self, request: ChatRequest, tiles: tuple[RgbImage, ...], one: Field, verdict: Verdict) -> Answer:
        question = Question(verdict.question, one.choices)
        asked = AskRequest(tiles, question, request.talk.history, 1, system=request.talk.system)
        for event in self._client.ask(asked):
            if isinstance(event, Done) and event.answer.choices:
                return event.answer
        raise ClientGone


def _judged(request: ChatRequest) -> list[tuple[Field, Verdict]]:
    """What is asked with its verdict. The system text is the client's instruction, not a question, and not judged."""
    asked = request.fields or (Field("", request.talk.question, ()),)
    return [(one, judge(one.question, one.choices)) for one in asked]


def _more(verdict: Verdict) -> dict[str, Any]:
    named = {"note": verdict.note, "topic": verdict.topic, "asked": verdict.question if verdict.note else ""}
    return {name: value for name, value in named.items() if value}


def _ended(answer: Answer, more: dict[str, Any]) -> Ended:
    if answer.finish not in _FINISH:
        raise ClientGone
    return Ended(_FINISH[answer.finish], answer.timings.prompt_tokens, answer.timings.tokens, more)


def _probabilities(answer: Answer) -> list[dict[str, Any]]:
    return [{"text": choice.text, "p": choice.p} for choice in answer.choices]


def _content(fields: tuple[Field, ...], answers: list[Answer]) -> str:
    if not fields[0].quoted:
        return answers[0].text
    values = {one.name: one.value(answer.text) for one, answer in zip(fields, answers, strict=True)}
    return json.dumps(values[""] if list(values) == [""] else values, ensure_ascii=False)


def _as_token(answer: Answer, top: int) -> Token:
    """A choice as if it were one token, so that its probabilities are where a client looks for them."""
    scored = [Likely(choice.text, math.log(max(choice.p, 1e-300))) for choice in answer.choices]
    scored.sort(key=lambda one: -one.logprob)
    return Token(scored[0].text, scored[0].logprob, tuple(scored[:top]))
