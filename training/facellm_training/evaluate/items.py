"""What is asked in an evaluation: pictures, a prompt, the keys that answer it, and the right one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from facellm.core.errors import FaceLLMError
from facellm.core.faces import RgbImage
from facellm.core.prompt import choice_keys, user_text
from facellm.vision.decode import load_photo, photo_from_bytes

#: A file, an encoded picture, or pixels (uint8 RGB ``[height, width, 3]``).
Picture: TypeAlias = Path | bytes | NDArray[np.uint8]


#: How several pictures are put before the question; answers to another layout are not taken for answers to this one.
LAYOUT = "a line end after each picture"


class EvaluationError(FaceLLMError):
    """What is to be evaluated cannot be: the data, the sheet or the model is not what it must be."""


class ItemRefused(EvaluationError):
    """A model cannot be asked this one question; the others it can."""


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One closed question. ``right`` indexes ``options`` and ``keys`` (what the model may say: letters, or yes/no).

    ``prompt`` is the user's whole turn after the pictures, options included. ``groups``: name → value, for gaps.
    ``max_tokens`` > 0 asks for free text as well; with ``think`` the key is decided after that text, not before.
    """

    id: str
    pictures: tuple[Picture, ...]
    prompt: str
    keys: tuple[str, ...]
    options: tuple[str, ...]
    right: int
    task: str
    category: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)
    max_tokens: int = 0
    think: bool = False

    def digest(self) -> str:
        """Changes with everything that could change the answer, the pictures' content included."""
        seen = [_mark(picture) for picture in self.pictures]
        whole = json.dumps([self.prompt, self.keys, self.max_tokens, self.think, seen] + [LAYOUT] * (len(seen) > 1))
        return hashlib.sha256(whole.encode()).hexdigest()[:32]


def closed_item(
    name: str, pictures: Sequence[Picture], question: str, options: Sequence[str], right: int, task: str,
    groups: Mapping[str, str],
) -> Item:  # fmt: skip
    """A question in the product's own layout. Raises ``ValueError`` for impossible options."""
    choices = tuple(options)
    keys = choice_keys(choices)
    return Item(name, tuple(pictures), user_text(question, choices), keys, choices, right, task, groups=groups)


def load_picture(picture: Picture) -> RgbImage:
    """Pixels, upright, RGB uint8. Raises ``PhotoError`` for what cannot be read."""
    if isinstance(picture, Path):
        return load_photo(picture).pixels
    if isinstance(picture, bytes):
        return photo_from_bytes(picture, "picture").pixels
    return picture


def _mark(picture: Picture) -> str:
    if isinstance(picture, Path):
        try:
            found = picture.stat()
            return _content(picture, found.st_size, found.st_mtime_ns)
        except OSError:
            return ""
    data = picture if isinstance(picture, bytes) else picture.tobytes()
    return hashlib.sha256(data).hexdigest()


@lru_cache(maxsize=65536)
def _content(path: Path, size: int, changed: int) -> str:  # noqa: ARG001 - tell one content from the next
    """Of a file that many questions are about, computed once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
