"""Puts the same items to every model, keeps each answer, and goes on where a killed run was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from facellm.core.errors import FaceLLMError
from facellm.core.faces import RgbImage
from facellm.engine.errors import BadPicture, EngineDied, QuestionTooLong
from facellm.vision.decode import PhotoError
from facellm_training.evaluate.backends import Backend
from facellm_training.evaluate.items import EvaluationError, Item, ItemRefused, load_picture
from facellm_training.evaluate.journal import Journal, Reply

JOURNAL = "answers.sqlite"
#: Begins the reason of an item whose picture is not there or damaged; which one follows.
UNREADABLE = "unreadable picture"
#: An engine that dies again on the same question is not to blame for it; one that dies so often in a row is broken.
DEATHS = 3

#: Says what is being done: model, answered, of how many.
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class ModelAnswers:
    """What one model answered. ``settings``: everything that could change it. ``replies``: by item id."""

    name: str
    settings: dict[str, Any]
    replies: dict[str, Reply]


@dataclass(frozen=True, slots=True)
class Asked:
    """``items``: those that every model answered, the only ones that are compared. ``skipped``: item id → reason."""

    items: tuple[Item, ...]
    models: tuple[ModelAnswers, ...]
    skipped: dict[str, str]


def ask_models(
    items: Sequence[Item], models: dict[str, Callable[[], Backend]], out: Path, tell: Tell, skipped: dict[str, str]
) -> Asked:
    """Ask all ``items`` of all ``models`` (name → how to open it), one model at a time.

    ``skipped``: items that were left out before. Raises ``EvaluationError`` when nothing can be asked,
    ``JournalError`` on a full disk, and what opening a model raises.
    """
    if not items:
        raise EvaluationError("There is nothing to ask.", _reasons(skipped) or "Check the data's path.")
    names = [item.id for item in items]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise EvaluationError(f"Two items are called {twice}.", "Each picture needs its own name.")
    skipped = dict(skipped)
    found = []
    with Journal(out / JOURNAL) as journal:
        for name, opened in models.items():
            with closing(opened()) as backend:
                run = _Run(name, backend, journal, tell)
                replies = run.ask([item for item in items if item.id not in skipped], skipped)
                found.append(ModelAnswers(name, dict(backend.settings), replies))
    common = tuple(item for item in items if item.id not in skipped)
    if not common:
        raise EvaluationError("No question could be asked.", _reasons(skipped))
    return Asked(common, tuple(found), skipped)


class _Run:
    def __init__(self, name: str, backend: Backend, journal: Journal, tell: Tell) -> None:
        self._name, self._backend, self._journal, self._tell = name, backend, journal, tell
        self._deaths = 0

    def ask(self, items: Sequence[Item], skipped: dict[str, str]) -> dict[str, Reply]:
        key = self._journal.model(self._backend.settings)
        replies = self._journal.replies(key, items)
        pending = [item for item in items if item.id not in replies]
        self._tell(self._name, len(replies), len(items))
        for group in self._groups(pending):
            answered = self._group(group, skipped)
            self._journal.add(key, answered)
            replies |= {item.id: reply for item, reply in answered}
            self._tell(self._name, len(replies), len(items))
        return replies

    def _groups(self, items: Iterable[Item]) -> Iterable[list[Item]]:
        """Neighbours with the very same pictures, where the backend gains by that."""
        if not self._backend.together:
            return ([item] for item in items)
        return (list(group) for _, group in groupby(items, key=lambda item: tuple(map(id, item.pictures))))

    def _group(self, items: list[Item], skipped: dict[str, str]) -> list[tuple[Item, Reply]]:
        try:
            pictures = [load_picture(picture) for picture in items[0].pictures]
        except PhotoError as error:
            skipped |= {item.id: f"{UNREADABLE}: {error}" for item in items}
            return []
        try:
            return list(zip(items, self._answer(pictures, items), strict=True))
        except (QuestionTooLong, BadPicture, ItemRefused) as error:
            if len(items) > 1:  # only those that are to blame
                return [one for item in items for one in self._group([item], skipped)]
            skipped[items[0].id] = f"{self._name}: {error}"
            return []

    def _answer(self, pictures: list[RgbImage], items: list[Item]) -> list[Reply]:
        while True:
            try:
                replies = self._backend.answer(pictures, items)
            except EngineDied as error:
                self._deaths += 1
                if self._deaths >= DEATHS:
                    raise _given_up(items[0], error) from error
                continue
            self._deaths = 0
            return replies


def _given_up(item: Item, error: FaceLLMError) -> EvaluationError:
    return EvaluationError(
        f"The engine died {DEATHS} times on {item.id}: {error}", "All earlier answers are kept; run it again to go on."
    )


def _reasons(skipped: dict[str, str]) -> str:
    several = sorted(set(skipped.values()))
    return f"{len(skipped)} were skipped, the first reason: {several[0]}" if several else ""
