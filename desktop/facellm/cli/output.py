"""What commands write: progress and errors on stderr, plain text, JSON lines."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

import typer

from facellm.core.errors import FaceLLMError
from facellm.core.sizes import bytes_text

if TYPE_CHECKING:
    from rich.status import Status

    from facellm.core.faces import FaceBox, Facts
    from facellm.engine.protocol import Loading

#: C0 and C1 control characters, and those that turn the direction of writing.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

#: Decimals of JSON numbers: pixels and seconds are not measured finer than these.
PIXEL_DIGITS, DIGITS = 1, 4
#: Seconds between two lines of progress where there is no terminal.
_LINE_S = 5.0


def show_error(error: FaceLLMError, about: str = "") -> None:
    """One red line that says what happened, and one with what to do; colours on a terminal only.

    ``about`` names the photo where the sentence does not.
    """
    message = f"{about}: {error}" if about and about not in str(error) else str(error)
    typer.secho(printable(message), fg=typer.colors.RED, err=True)
    if error.hint:
        typer.secho(printable(error.hint), err=True)


def printable(text: str) -> str:
    """Without control characters except line breaks and tabs: a model or a file's name may hold escape sequences."""
    return _CONTROL.sub("", text)


def write_json(row: dict[str, object]) -> None:
    """One object on one line of stdout, flushed; ASCII only, so that every pipe carries it."""
    sys.stdout.write(json.dumps(row, allow_nan=False) + "\n")
    sys.stdout.flush()


def number(value: float | None, digits: int = DIGITS) -> float | None:
    """Rounded; ``None`` for what could not be measured."""
    return None if value is None or not math.isfinite(value) else round(float(value), digits)


def box_row(box: FaceBox) -> list[float | None]:
    """``[x, y, w, h]`` in pixels of the photo."""
    return [number(side, PIXEL_DIGITS) for side in (box.x, box.y, box.w, box.h)]


def facts_row(facts: Facts) -> dict[str, float | None]:
    """Facts by name, ``None`` where not measured."""
    return {name: number(getattr(facts, name)) for name in facts.__slots__}


class Progress:
    """One changing line on a terminal, plain lines elsewhere; always on stderr. A context manager."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._status: Status | None = None
        self._stage = ""

    def doing(self, what: str) -> None:
        """Say what is being done now; it disappears from a terminal when it is done."""
        what = printable(what)
        if not self._stream.isatty():
            self.say(what)
        elif self._status is None:
            from rich.console import Console
            from rich.text import Text

            self._status = Console(file=self._stream, highlight=False).status(Text(what))
            self._status.start()
        else:
            from rich.text import Text

            self._status.update(Text(what))

    def loading(self, event: Loading) -> None:
        """A step of loading the model, with per cent on a terminal."""
        if self._stream.isatty():
            self.doing(f"Loading the model: {event.stage} {event.fraction:.0%}")
        elif event.stage != self._stage:
            self._stage = event.stage
            self.doing(f"Loading the model: {event.stage}")

    def say(self, what: str) -> None:
        """A line that stays."""
        self.clear()
        self._stream.write(printable(what) + "\n")
        self._stream.flush()

    def clear(self) -> None:
        """Take the changing line away, so that an answer can be written."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()


class ByteBar:
    """What a ``Progress`` shows of work on bytes: what, how much of it, how fast, how long still."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._step, self._begun, self._first, self._said = "", 0.0, 0, 0.0

    def __call__(self, step: str, done: int, total: int) -> None:
        now = time.monotonic()
        if step != self._step:
            self._step, self._begun, self._first = step, now, done
        elif now - self._said < (0.1 if os.isatty(2) else _LINE_S):
            return
        self._said = now
        rate = (done - self._first) / max(1e-3, now - self._begun)
        more = f", {bytes_text(int(rate))}/s, {(total - done) / rate:.0f} s left" if rate > 0 and total > done else ""
        share = f" {done / total:.0%} of {bytes_text(total)}{more}" if total else ""
        self._progress.doing(f"{step}{share}")
