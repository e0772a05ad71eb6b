"""Renders the model's own chat template and cuts the result so that user text cannot act as control tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass

from facellm.core.ask import Turn
from facellm.engine.errors import BadModel

#: Private-use characters: they mark places during rendering and cannot come from a keyboard by accident.
_TEXT, _IMAGE = "\ue0f1", "\ue0f2"
_PLACES = re.compile(f"{_TEXT}(\\d+){_TEXT}|({_IMAGE})")


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


Piece = Control | Said | Picture


def compose(template: str, question: str, history: tuple[Turn, ...], images: int, special: dict[str, str]) -> list[Piece]:
    """The conversation as pieces in order. The pictures stand in the first user turn, one line end after them.

    ``special``: ``bos_token`` and ``eos_token``. Raises ``BadModel`` when the template cannot be rendered.
    """
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    said: list[str] = []

    def place(text: str) -> str:
        said.append(text)
        return f"{_TEXT}{len(said) - 1}{_TEXT}"

    messages = []
    for turn in history:
        messages += [{"role": "user", "content": place(turn.question)}, {"role": "assistant", "content": place(turn.answer)}]
    messages.append({"role": "user", "content": place(question)})
    if images:
        messages[0]["content"] = _IMAGE * images + "\n" + messages[0]["content"]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _refuse
    try:
        rendered = environment.from_string(template).render(messages=messages, add_generation_prompt=True, **special)
    except (TemplateError, TypeError, ValueError) as error:
        raise BadModel(f"The model's chat template cannot be rendered: {error}", "Convert the model anew.") from error
    return _cut(rendered, said, images)


def _refuse(message: str) -> None:
    raise ValueError(message)


def _cut(rendered: str, said: list[str], images: int) -> list[Piece]:
    pieces: list[Piece] = []
    end = pictures = 0
    seen: set[int] = set()
    for match in _PLACES.finditer(rendered):
        if match.start() > end:
            pieces.append(Control(rendered[end : match.start()]))
        if match.group(2):
            pieces.append(Picture(pictures))
            pictures += 1
        else:
            seen.add(int(match.group(1)))
            pieces.append(Said(said[int(match.group(1))]))
        end = match.end()
    if end < len(rendered):
        pieces.append(Control(rendered[end:]))
    if pictures != images or seen != set(range(len(said))):
        raise BadModel("The model's chat template drops the picture or the question.", "Convert the model anew.")
    return pieces


def as_text(pieces: list[Piece]) -> str:
    """The prompt for people: pictures as ``<image>``."""
    return "".join("<image>" if isinstance(piece, Picture) else piece.text for piece in pieces)
