"""Renders the model's own chat template and cuts the result so that user text cannot act as control tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from facellm.core.ask import Turn
from facellm.engine.errors import BadModel

#: Private-use characters: they mark places during rendering; what people write is not in the text by then.
_TEXT, _IMAGE = "\ue0f1", "\ue0f2"
_PLACES = re.compile(f"{_TEXT}(\\d+){_TEXT}|{_IMAGE}(\\d+){_IMAGE}")
_HINT = "Convert the model anew, with its chat template."


@dataclass(frozen=True, slots=True)
class Control:
    """Text of the template: special tokens in it count as such."""

    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """Text of a person or of the model: taken literally."""

    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """The place of the ``index``-th picture."""

    index: int


Piece: TypeAlias = Control | Said | Picture
Message: TypeAlias = dict[str, Any]


class ChatTemplate:
    """A GGUF's ``tokenizer.chat_template`` (Jinja), run in a sandbox."""

    def __init__(self, source: str, *, bos: str, eos: str) -> None:
        """Raises ``BadModel`` when ``source`` is empty or no template."""
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        if not source.strip():
            raise BadModel("The language model carries no chat template.", _HINT)
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"], autoescape=False
        )
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda layout: datetime.now().astimezone().strftime(layout)
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise BadModel(f"The model's chat template is broken: {error}", _HINT) from error
        self._names = {"bos_token": bos, "eos_token": eos, "add_generation_prompt": True, "enable_thinking": False}

    def compose(self, question: str, history: Sequence[Turn], pictures: int, system: str = "") -> list[Piece]:
        """The conversation as pieces in order; the pictures stand first in the first user turn, a line end after each.

        Raises ``BadModel`` when the template cannot be rendered or leaves something out.
        """
        said = [text for turn in history for text in (turn.question, turn.answer)] + [question]
        said = [system, *said] if system else said
        reason = ""
        for messages in _ways(len(said), pictures, bool(system)):
            # Most templates take a text; some only the list form of pictures and texts.
            for form in (_as_text, _as_list):
                rendered, reason = self._render([form(role, content) for role, content in messages], reason)
                pieces = _cut(rendered, said)
                spoken = [piece.text for piece in pieces if isinstance(piece, Said)]
                seen = [piece.index for piece in pieces if isinstance(piece, Picture)]
                if spoken == said and seen == list(range(pictures)):
                    return pieces
        raise BadModel(f"The model's chat template leaves out pictures or questions. {reason}".strip(), _HINT)

    def _render(self, messages: list[Message], reason: str) -> tuple[str, str]:
        from jinja2 import TemplateError

        try:
            return self._template.render(messages=messages, **self._names), reason
        except (TemplateError, TypeError, ValueError, AttributeError, LookupError) as error:
            return "", reason or str(error)


def as_text(pieces: Sequence[Piece]) -> str:
    """The prompt for people: pictures as ``<image>``."""
    return "".join("<image>" if isinstance(piece, Picture) else piece.text for piece in pieces)


def _ways(texts: int, pictures: int, system: bool) -> list[list[tuple[str, str]]]:
    """Roles and contents of the messages. Templates without a system message take that text before the question."""
    marks = [f"{_TEXT}{index}{_TEXT}" for index in range(texts)]
    # As InternVL's own template and our training do it: a line end after each picture.
    images = "".join(f"{_IMAGE}{index}{_IMAGE}\n" for index in range(pictures))
    spoken = marks[1:] if system else marks
    turns = [("assistant" if index % 2 else "user", mark) for index, mark in enumerate(spoken)]
    first, later = turns[0][1], turns[1:]
    plain = [("user", images + first), *later]
    if not system:
        return [plain]
    return [[("system", marks[0]), *plain], [("user", f"{images}{marks[0]}\n\n{first}"), *later]]


def _as_text(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _as_list(role: str, content: str) -> Message:
    return {"role": role, "content": [{"type": "text", "text": content}]}


def _refuse(message: str) -> None:
    raise ValueError(message)


def _cut(rendered: str, said: list[str]) -> list[Piece]:
    pieces: list[Piece] = []
    end = 0
    for match in _PLACES.finditer(rendered):
        if match.start() > end:
            pieces.append(Control(rendered[end : match.start()]))
        spoken, picture = match.groups()
        pieces.append(Picture(int(picture)) if picture else Said(said[int(spoken)]))
        end = match.end()
    if end < len(rendered):
        pieces.append(Control(rendered[end:]))
    return pieces
