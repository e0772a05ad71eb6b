"""How answers are written: streamed text for people, JSON lines for machines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from facellm.cli.output import DIGITS, box_row, facts_row, number, printable, write_json
from facellm.core.ask import Answer, Question
from facellm.core.errors import FaceLLMError
from facellm.core.faces import WHOLE
from facellm.engine.protocol import Done, Encoded, Token

if TYPE_CHECKING:
    from facellm.cli.wanted import Wanted
    from facellm.conversation.session import Session
    from facellm.engine.protocol import AskEvent

#: Characters of a bar that stands for 100 %.
BAR = 24
#: What is said after an answer that did not come to its end.
UNFINISHED = {"length": "The answer was cut at --max-tokens.", "stopped": "The answer was stopped."}


class Writer(Protocol):
    """Takes one photo after the other: ``photo``, then ``face`` and ``answer``s, then ``end``.

    ``failed`` may come instead of any of them; then the next photo begins.
    """

    def photo(self, path: Path, model: dict[str, object], /) -> None: ...

    def face(self, session: Session, labels: tuple[str, ...], /) -> None: ...

    def answer(self, question: Question, events: Iterator[AskEvent], /) -> None: ...

    def end(self, note: str, /) -> None: ...

    def failed(self, path: Path, error: FaceLLMError, /) -> None: ...


class TextWriter:
    """Answers as they stream; headings, bars and timings are coloured on a terminal and plain elsewhere."""

    def __init__(self, wanted: Wanted) -> None:
        from rich.console import Console

        self._wanted = wanted
        self._console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._questions = len(wanted.questions) > 1
        self._at_start = True

    def photo(self, path: Path, _model: dict[str, object]) -> None:
        if len(self._wanted.photos) > 1:
            self._line(str(path), "bold underline")

    def face(self, _session: Session, labels: tuple[str, ...]) -> None:
        names = "The whole picture" if labels == (WHOLE,) else " + ".join(f"Face {label}" for label in labels)
        self._line(names, "bold")

    def answer(self, question: Question, events: Iterator[AskEvent]) -> None:
        if self._questions:
            self._line(question.text, "italic")
        streamed = False
        for event in events:
            if isinstance(event, Token) and not question.choices:
                text = event.text if streamed else event.text.lstrip()
                self._write(text)
                streamed = streamed or bool(text)
            elif isinstance(event, Done):
                self._finish(event.answer, streamed)

    def end(self, note: str) -> None:
        """Nothing: what a person must know was said on stderr."""

    def failed(self, _path: Path, _error: FaceLLMError) -> None:
        """End the line that an answer may stand in; the error itself goes to stderr."""
        if not self._at_start:
            self._write("\n")

    def _finish(self, answer: Answer, streamed: bool) -> None:
        self._write("\n" if streamed else f"{answer.text.strip()}\n")
        for choice in answer.choices:
            bar = "█" * round(choice.p * BAR) if self._console.is_terminal else ""
            self._line(f"  {choice.p:6.1%}  {choice.text}  {bar}".rstrip())
        for remark in (answer.note, UNFINISHED.get(answer.finish, "")):
            if remark:
                self._line(f"({remark})", "dim")
        timings = answer.timings
        if self._console.is_terminal and answer.finish != "policy":
            speed = f", {timings.tokens} tokens, {timings.tokens_per_s:.0f} tokens/s" if not answer.choices else ""
            self._line(f"{timings.first_token_s:.2f} s to the first token{speed}", "dim")
        if self._questions or len(self._wanted.photos) > 1:
            self._write("\n")

    def _line(self, text: str, style: str = "") -> None:
        if self._console.is_terminal:
            self._console.print(printable(text), style=style, markup=False)
        else:
            self._write(text + "\n")

    def _write(self, text: str) -> None:
        sys.stdout.write(printable(text))
        sys.stdout.flush()
        self._at_start = text.endswith("\n") or (self._at_start and not text)


class JsonWriter:
    """One object a photo and line, written when the photo's last answer is there, or when it fails."""

    def __init__(self) -> None:
        self._row: dict[str, object] = {}
        self._faces: list[dict[str, object]] = []
        self._answers: list[dict[str, object]] = []
        self._encode_s = 0.0

    def photo(self, path: Path, model: dict[str, object]) -> None:
        self._faces = []
        self._row = {"image": str(path), "model": model, "faces": self._faces}

    def face(self, session: Session, labels: tuple[str, ...]) -> None:
        face = session.face(labels[0]) if len(labels) == 1 else None
        whole: list[float | None] = [0, 0, session.photo.width, session.photo.height]
        self._answers, self._encode_s = [], 0.0
        self._faces.append(
            {
                "label": "+".join(labels),
                "box": box_row(face.box) if face is not None else (whole if labels == (WHOLE,) else None),
                "score": number(face.box.score) if face is not None else None,
                "facts": facts_row(face.facts) if face is not None else {},
                "encode_s": 0.0,
                "answers": self._answers,
            }
        )

    def answer(self, question: Question, events: Iterator[AskEvent]) -> None:
        for event in events:
            if isinstance(event, Encoded):
                self._encode_s += event.seconds
            elif isinstance(event, Done):
                self._answers.append(_answer_row(question, event.answer))
        self._faces[-1]["encode_s"] = number(self._encode_s)

    def end(self, note: str) -> None:
        self._write({"note": note} if note else {})

    def failed(self, path: Path, error: FaceLLMError) -> None:
        """With the answers that were there before it failed."""
        self._row = self._row or {"image": str(path)}
        self._write({"error": str(error)})

    def _write(self, last: dict[str, object]) -> None:
        row, self._row = self._row | last, {}
        write_json(row)


def _answer_row(question: Question, answer: Answer) -> dict[str, object]:
    """``note`` and ``finish`` only where there is something to say."""
    timings = answer.timings
    row: dict[str, object] = {
        "question": question.text,
        "answer": answer.text.strip(),
        "choices": [{"text": choice.text, "p": number(choice.p)} for choice in answer.choices],
        "first_token_s": number(timings.first_token_s),
        "tokens": timings.tokens,
        "tokens_per_s": number(timings.tokens_per_s, DIGITS // 2),
    }
    if answer.note:
        row["note"] = answer.note
    if answer.finish != "end":
        row["finish"] = answer.finish
    return row
