"""The messages of a request as pictures, a system text, earlier turns and a question."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any

from facellm.core.ask import Turn
from facellm.core.policy import judge
from facellm.server.checks import plain
from facellm.server.errors import ApiError

#: More would fill any context, at 49 to 256 tokens each.
MOST_PICTURES = 16
#: Characters of all messages together: more than fits into a context of 8192 tokens.
MOST_TEXT = 40_000
_SYSTEM = ("system", "developer")
_DATA_URL = re.compile(r"data:image/(?:png|jpeg|jpg|webp);base64,", re.IGNORECASE)
_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")
_PICTURE_HINT = "Send the picture itself: data:image/png;base64,… (PNG, JPEG or WebP)."


@dataclass(frozen=True, slots=True)
class Talk:
    """``pictures``: encoded files, those of all messages in order. ``history`` leaves out what was refused."""

    question: str
    pictures: tuple[bytes, ...] = ()
    system: str = ""
    history: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class _Message:
    role: str
    text: str
    pictures: tuple[bytes, ...]


def read_messages(value: Any) -> Talk:
    """Raises ``ApiError``."""
    if not isinstance(value, list) or not value:
        raise ApiError(
            "There are no messages.", 'Set "messages" to a list that ends with the user\'s.', param="messages"
        )
    read = [_message(row, f"messages[{index}]") for index, row in enumerate(value)]
    first = next((index for index, one in enumerate(read) if one.role not in _SYSTEM), len(read))
    spoken = _joined(read[first:])
    roles = [one.role for one in spoken]
    if not roles or roles != (["user", "assistant"] * len(roles))[: len(roles)] or roles[-1] != "user":
        raise ApiError(
            "The messages must be: system (or none), then user and assistant in turn, the last one the user's.",
            param="messages",
        )
    pictures = tuple(picture for one in spoken for picture in one.pictures)
    if len(pictures) > MOST_PICTURES:
        raise ApiError(f"There are {len(pictures)} pictures; at most {MOST_PICTURES} are taken.", param="messages")
    if sum(len(one.text) for one in read) > MOST_TEXT:
        raise ApiError(
            f"The messages have more than {MOST_TEXT} characters.",
            "Ask in fewer words.",
            code="context_length_exceeded",
            param="messages",
        )
    if not spoken[-1].text.strip():
        raise ApiError("The question is empty.", "Write what you want to know.", param="messages")
    system = "\n".join(one.text for one in read[:first]).strip()
    return Talk(spoken[-1].text, pictures, system, _history(spoken[:-1]))


def _history(spoken: list[_Message]) -> tuple[Turn, ...]:
    """As in a conversation of the window: a refusal was never said by the model, so it is no context for it."""
    verdicts = [judge(one.text) for one in spoken[::2]]
    turns = zip(verdicts, spoken[1::2], strict=True)
    return tuple(Turn(verdict.question, answer.text) for verdict, answer in turns if not verdict.refusal)


def _joined(read: list[_Message]) -> list[_Message]:
    """Messages of one speaker that follow each other are one turn."""
    turns: list[_Message] = []
    for one in read:
        if turns and turns[-1].role == one.role:
            last = turns.pop()
            one = _Message(one.role, f"{last.text}\n{one.text}".strip(), last.pictures + one.pictures)
        turns.append(one)
    return turns


def _message(row: Any, where: str) -> _Message:
    role = row.get("role") if isinstance(row, dict) else None
    if role not in (*_SYSTEM, "user", "assistant"):
        raise ApiError(f"{where}.role must be system, developer, user or assistant.", param=where)
    content = row.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise ApiError(f"{where}.content must be a text or a list of parts.", param=where)
    texts, pictures = [], []
    for index, part in enumerate(parts):
        place = f"{where}.content[{index}]"
        if part.get("type") == "text" and isinstance(part.get("text"), str):
            texts.append(plain(part["text"], place))
        elif part.get("type") == "image_url" and role == "user":
            pictures.append(_picture(part.get("image_url"), place))
        else:
            raise ApiError(f"{place} must be a text, or in a user's message an image_url.", param=place)
    return _Message(role, "\n".join(texts), tuple(pictures))


def _picture(value: Any, place: str) -> bytes:
    url = value.get("url") if isinstance(value, dict) else None
    if not isinstance(url, str):
        raise ApiError(f"{place}.image_url.url is missing.", _PICTURE_HINT, param=place)
    start = _DATA_URL.match(url)
    if start is None:
        what = "is an address: this server is offline and fetches nothing" if "://" in url[:16] else "is no picture"
        raise ApiError(f"{place}.image_url.url {what}.", _PICTURE_HINT, code="invalid_image_url", param=place)
    try:
        data = base64.b64decode(url[start.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(f"{place} is not base64.", _PICTURE_HINT, code="invalid_image", param=place) from error
    if not data.startswith(_STARTS):
        raise ApiError(f"{place} is no PNG, JPEG or WebP.", _PICTURE_HINT, code="invalid_image", param=place)
    return data
