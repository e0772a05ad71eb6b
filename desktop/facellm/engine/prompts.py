"""A rendered conversation as what goes into the model: token ids, places of pictures, and where the question starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from facellm.engine.template import Control, Picture, Piece, Said, as_text


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of a picture (or of one tile of it): ``key`` names its content; ``positions`` are what it takes
    of the context's numbering, which for some models is less than its ``tokens``."""

    key: str
    tokens: int
    positions: int


#: One element of a prompt: a token id, or a picture's place.
Item: TypeAlias = int | Slot


@dataclass(frozen=True, slots=True)
class Prompt:
    """``items`` up to ``head`` are the same for every next question about these pictures and turns.

    ``tail``: ordinary text after the last control token; an answer continues it. ``text``: for people.
    """

    items: tuple[Item, ...]
    head: int
    tail: str
    text: str

    @property
    def tokens(self) -> int:
        return sum(item.tokens if isinstance(item, Slot) else 1 for item in self.items)


class Vocabulary(Protocol):
    """What a prompt needs of a tokenizer."""

    bos: int
    starts_with_bos: bool

    def literal(self, text: str) -> list[int]: ...

    def cut(self, template: str) -> tuple[str | int, ...]: ...

    def strips_left(self, token: int) -> bool: ...

    def strips_right(self, token: int) -> bool: ...


def positions(items: Iterable[Item]) -> int:
    """Places that ``items`` take in the context."""
    return sum(item.positions if isinstance(item, Slot) else 1 for item in items)


def tokenize(pieces: Sequence[Piece], pictures: Sequence[Sequence[Item]], vocabulary: Vocabulary) -> Prompt:
    """Token ids exactly as of the plainly rendered text, except that what people said is taken literally.

    Ordinary text of the template and what was said in it are joined before they are tokenised, because words
    at the seams ("user" + line end + question) may share tokens; only control tokens and pictures separate.
    """
    writer = _Writer(vocabulary)
    for piece in pieces:
        if isinstance(piece, Picture):
            writer.add(pictures[piece.index])
        elif isinstance(piece, Said):
            writer.head = len(writer.items)  # what stands before the run that holds the last thing said
            writer.run += piece.text
        else:
            writer.template(piece)
    tail = writer.flush()
    return Prompt(tuple(writer.items), writer.head, tail, as_text(pieces))


class _Writer:
    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._strip = False
        self.items: list[Item] = []
        self.head = 0
        self.run = ""

    def template(self, piece: Control) -> None:
        for part in self._vocabulary.cut(piece.text):
            if isinstance(part, str):
                self.run += part
                continue
            if self._vocabulary.strips_left(part):
                self.run = self.run.rstrip()
            self.add([part])
            self._strip = self._vocabulary.strips_right(part)

    def add(self, items: Sequence[Item]) -> None:
        self.flush()
        if not self.items and self._vocabulary.starts_with_bos and items[0] != self._vocabulary.bos:
            self.items.append(self._vocabulary.bos)
        self.items += items

    def flush(self) -> str:
        """Tokenise the run of ordinary text so far, and return it."""
        text = self.run.lstrip() if self._strip else self.run
        self.run, self._strip = "", False
        if text:
            self.add(self._vocabulary.literal(text))
        return text
