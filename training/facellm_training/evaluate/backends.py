"""Models of every kind behind one interface: pictures and closed questions in, log-probabilities and free text out."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from facellm.core.ask import Answer, Question, Turn
from facellm.core.faces import Photo, RgbImage
from facellm.core.package import ModelPackage
from facellm.engine.client import EngineClient
from facellm.engine.protocol import AskRequest, Done, EngineOptions
from facellm.models.gguf_header import read_header
from facellm.models.packages import find_package
from facellm.models.store import AssetStore
from facellm.vision.crop import NEUTRAL, whole_tile
from facellm_training.evaluate.items import EvaluationError, Item
from facellm_training.evaluate.journal import Reply

#: Six pictures of 256 tokens, FaceXBench's longest text (1,900 tokens) and 500 tokens of answer.
CONTEXT = 8192
#: The second turn of a question that was reasoned about: what is said now is the answer.
CONCLUDE = "So which option is right? Answer with its letter only."
#: A probability of zero has no log; no reported number depends on this.
LEAST = 1e-30


class Backend(Protocol):
    """``settings``: everything about the model that can change an answer. ``together``: several questions about
    the same pictures are best given in one call."""

    together: bool

    @property
    def settings(self) -> dict[str, Any]: ...

    def answer(self, pictures: Sequence[RgbImage], items: Sequence[Item]) -> list[Reply]:
        """One reply an item; all items are about ``pictures``. Raises ``FaceLLMError``."""

    def close(self) -> None: ...


def find_backend(name: str, *, remote_allowed: bool = False) -> Callable[[], Backend]:
    """How to open the model that ``name`` means; what is wrong with the name is said now, before hours of others.

    A name, folder or file of a GGUF package: through the engine. A folder with ``config.json``: through transformers.
    ``http://HOST/v1#MODEL``: an OpenAI-compatible server, which gets the pictures; one on another machine only with
    ``remote_allowed``. Raises ``EvaluationError`` or ``ModelMissing``.
    """
    if name.startswith(("http://", "https://")):
        from facellm_training.evaluate.openai_backend import OpenAIBackend

        OpenAIBackend(name, remote_allowed=remote_allowed).close()
        return lambda: OpenAIBackend(name, remote_allowed=remote_allowed)
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        from facellm_training.evaluate.transformers_backend import TransformersBackend, check_folder

        check_folder(folder)
        return lambda: TransformersBackend(folder)
    package = find_package(name, AssetStore())
    return lambda: GgufBackend(package)


def open_backend(name: str, *, remote_allowed: bool = False) -> Backend:
    """:func:`find_backend`, opened at once."""
    return find_backend(name, remote_allowed=remote_allowed)()


def one_tile(pictures: Sequence[RgbImage], tile: int) -> tuple[RgbImage, ...]:
    """The one rule for all backends on this machine: each whole picture in one tile; see :func:`tile_rule`."""
    return tuple(whole_tile(Photo("picture", pixels), tile) for pixels in pictures)


def tile_rule(tile: int) -> str:
    """:func:`one_tile` in words, for the record."""
    return f"whole picture centred in one tile of {tile} px, border {NEUTRAL}"


def log_softmax(scores: Sequence[float]) -> tuple[float, ...]:
    """Natural logs of probabilities that sum to 1."""
    values = np.asarray(scores, np.float64)
    return tuple(float(value) for value in values - np.logaddexp.reduce(values))


class GgufBackend:
    """A GGUF pair in the product's own engine."""

    together = True

    def __init__(self, package: ModelPackage, options: EngineOptions | None = None) -> None:
        self._package = package
        self._client = EngineClient(package, options or EngineOptions(context=CONTEXT))
        self._settings: dict[str, Any] = {}

    @property
    def settings(self) -> dict[str, Any]:
        if not self._settings:
            info = self._client.load()
            self._settings = {
                "backend": "gguf", "runtime": info.runtime, "device": info.device, "context": info.context,
                "llm": self._package.llm.name, "llm_sha256": file_sha256(self._package.llm),
                "mmproj": self._package.mmproj.name, "mmproj_sha256": file_sha256(self._package.mmproj),
                "tiles": tile_rule(self._package.tile), "decoding": "greedy", "seed": self._client.options.seed,
                "choice_temperature": float(read_header(self._package.llm).get("facellm.choice_temperature", 1.0)),
            }  # fmt: skip
        return self._settings

    def answer(self, pictures: Sequence[RgbImage], items: Sequence[Item]) -> list[Reply]:
        tiles = one_tile(pictures, self._package.tile)
        begun = time.monotonic()
        plain = [item for item in items if not item.think]
        chosen = self._client.choose(tiles, [_closed(item) for item in plain]) if plain else []
        share = (time.monotonic() - begun) / max(1, len(plain))
        closed = iter(chosen)
        replies = []
        for item in items:
            begun = time.monotonic()
            text = self._say(tiles, item) if item.max_tokens else None
            answer = self._conclude(tiles, item, text or "") if item.think else next(closed)
            seconds = time.monotonic() - begun + (0.0 if item.think else share)
            replies.append(Reply(_logs(answer), text, round(seconds, 4)))
        return replies

    def _say(self, tiles: tuple[RgbImage, ...], item: Item) -> str:
        return self._ask(AskRequest(tiles, Question(item.prompt), max_tokens=item.max_tokens)).text

    def _conclude(self, tiles: tuple[RgbImage, ...], item: Item, reasoning: str) -> Answer:
        question = Question(CONCLUDE, item.keys, stated=True)
        return self._ask(AskRequest(tiles, question, history=(Turn(item.prompt, reasoning),)))

    def _ask(self, request: AskRequest) -> Answer:
        for event in self._client.ask(request):
            if isinstance(event, Done):
                return event.answer
        raise EvaluationError("The engine ended without an answer.")

    def close(self) -> None:
        self._client.close()


def _closed(item: Item) -> Question:
    return Question(item.prompt, item.keys, stated=True)


def _logs(answer: Answer) -> tuple[float, ...]:
    return log_softmax([float(np.log(max(choice.p, LEAST))) for choice in answer.choices])


def file_sha256(path: Path) -> str:
    """Of a file's whole content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
