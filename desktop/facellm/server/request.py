"""A body of ``/v1/chat/completions`` read and checked: what is asked, or why it cannot be."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from facellm.core.prompt import choice_keys
from facellm.server.checks import check_ignored, integer, number, text_list
from facellm.server.errors import ApiError
from facellm.server.fields import Field, read_format
from facellm.server.messages import Talk, read_messages

#: Tokens of an answer where the client sets no limit.
MAX_TOKENS = 256
#: OpenAI's own limits.
MOST_TOP, MOST_STOPS = 20, 4
FACES = ("whole", "largest")


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """``fields``: closed questions to answer instead of writing freely; ``face``: what of each picture is shown to the
    model, one of ``FACES``; ``top``: likeliest tokens wanted (-1: no log-probabilities at all)."""

    model: str
    talk: Talk
    fields: tuple[Field, ...] = ()
    max_tokens: int = MAX_TOKENS
    temperature: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    top: int = -1
    face: str = "whole"
    stream: bool = False
    include_usage: bool = False


def read_request(body: bytes) -> ChatRequest:
    """Raises ``ApiError`` for what is no request, or one that cannot be honoured."""
    row = _object(body)
    model = row.get("model")
    if not isinstance(model, str) or not model:
        raise ApiError("The request names no model.", 'Set "model"; GET /v1/models lists it.', param="model")
    check_ignored(row)
    talk = read_messages(row.get("messages"))
    face, choices = _extension(row.get("facellm"))
    fields = read_format(row.get("response_format"), talk.question)
    if choices and fields:
        raise ApiError("There are choices and a response_format.", "Give one of them.", param="facellm")
    options = row.get("stream_options") or {}
    if not isinstance(options, dict):
        raise ApiError("stream_options must be an object.", param="stream_options")
    return ChatRequest(
        model=model,
        talk=talk,
        fields=(Field("", talk.question, choices),) if choices else fields,
        max_tokens=_max_tokens(row),
        temperature=number(row, "temperature", 0.0, 0.0, 2.0),
        seed=integer(row, "seed", 0, -(2**63), 2**63 - 1) % 2**32,
        stop=text_list(row, "stop", MOST_STOPS),
        top=_top(row),
        face=face,
        stream=_flag(row, "stream"),
        include_usage=_flag(options, "include_usage"),
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        row = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError("The body is not JSON in UTF-8.", "Send one JSON object.", code="invalid_json") from error
    if not isinstance(row, dict):
        raise ApiError("The body is not a JSON object.", "Send one JSON object.", code="invalid_json")
    return row


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _flag(row: dict[str, Any], name: str) -> bool:
    value = row.get(name)
    if not isinstance(value, bool | None):
        raise ApiError(f"{name} must be true or false.", param=name)
    return bool(value)


def _max_tokens(row: dict[str, Any]) -> int:
    newer = integer(row, "max_completion_tokens", 0, 1, 2**31)
    return newer or integer(row, "max_tokens", MAX_TOKENS, 1, 2**31)


def _top(row: dict[str, Any]) -> int:
    wanted, top = _flag(row, "logprobs"), integer(row, "top_logprobs", 0, 0, MOST_TOP)
    if top and not wanted:
        raise ApiError("top_logprobs needs logprobs.", 'Set "logprobs": true.', param="top_logprobs")
    return top if wanted else -1


def _extension(value: Any) -> tuple[str, tuple[str, ...]]:
    """The field ``facellm``: which face, and what to choose from."""
    if value is None:
        return FACES[0], ()
    known = {"face", "choices"}
    if not isinstance(value, dict) or not set(value) <= known:
        raise ApiError('"facellm" takes "face" and "choices".', param="facellm")
    face = value.get("face", FACES[0])
    if face not in FACES:
        raise ApiError(f'"face" is one of: {", ".join(FACES)}.', param="facellm.face")
    choices = text_list(value, "choices", 26)
    if choices:
        try:
            choice_keys(choices)
        except ValueError as error:
            raise ApiError(f"The choices cannot be used: {error}.", param="facellm.choices") from error
    return face, choices
