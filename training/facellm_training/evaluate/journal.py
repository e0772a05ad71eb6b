"""Answers on the disk as they come: killed anywhere, nothing that was answered is asked again."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from facellm_training.evaluate.items import EvaluationError, Item

#: Settings that say where a model ran, not what it is: on another machine a run goes on instead of beginning anew.
#: The temperature is part of the file whose hash is there.
CIRCUMSTANCES = ("device", "machine", "choice_temperature")
_HINT = "Free some space and run the same command again: it goes on where it was."


class JournalError(EvaluationError):
    """Answers cannot be written or read; what was written before is safe."""


@dataclass(frozen=True, slots=True)
class Reply:
    """``logprobs``: natural logs of the keys' probabilities, which sum to 1; ``None`` where a server gives none.

    ``text``: the free answer, ``None`` where none was wanted. ``seconds``: for this question alone.
    """

    logprobs: tuple[float, ...] | None
    text: str | None
    seconds: float


class Journal:
    """An SQLite file; each :meth:`add` is on the disk when it returns. Several processes may share one."""

    def __init__(self, path: Path) -> None:
        """Raises ``JournalError`` for a file that is no journal, or a folder that cannot be written."""
        try:
            self._database = sqlite3.connect(path, timeout=60)
            self._database.execute("PRAGMA synchronous = FULL")
            with self._database:
                self._database.execute("CREATE TABLE IF NOT EXISTS model (key TEXT PRIMARY KEY, settings TEXT)")
                self._database.execute(
                    "CREATE TABLE IF NOT EXISTS answer "
                    "(model TEXT, item TEXT, digest TEXT, reply TEXT, PRIMARY KEY (model, item, digest))"
                )
        except sqlite3.Error as error:
            raise JournalError(
                f"{path} cannot be used as a journal: {error}.", "Free some space, or choose another --out."
            ) from error

    def model(self, settings: Mapping[str, Any]) -> str:
        """The key under which a model's answers lie: everything of ``settings`` that can change one."""
        kept = {name: value for name, value in settings.items() if name not in CIRCUMSTANCES}
        key = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:32]
        self._write("INSERT OR REPLACE INTO model VALUES (?, ?)", [(key, json.dumps(settings))])
        return key

    def replies(self, model: str, items: Iterable[Item]) -> dict[str, Reply]:
        """Item id → what ``model`` answered to exactly this item."""
        rows = self._database.execute("SELECT item, digest, reply FROM answer WHERE model = ?", (model,))
        known = {(item, digest): reply for item, digest, reply in rows}
        found = {}
        for item in items:
            reply = known.get((item.id, item.digest()))
            if reply is not None:
                found[item.id] = _reply(json.loads(reply))
        return found

    def add(self, model: str, answered: Iterable[tuple[Item, Reply]]) -> None:
        """Raises ``JournalError`` when the disk is full; all earlier answers are kept."""
        rows = [(model, item.id, item.digest(), json.dumps(asdict(reply))) for item, reply in answered]
        self._write("INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?)", rows)

    def _write(self, statement: str, rows: Sequence[tuple[str, ...]]) -> None:
        try:
            with self._database:
                self._database.executemany(statement, rows)
        except sqlite3.Error as error:
            raise JournalError(f"An answer could not be written: {error}.", _HINT) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()


def _reply(row: dict[str, Any]) -> Reply:
    logprobs = row["logprobs"]
    return Reply(None if logprobs is None else tuple(logprobs), row["text"], row["seconds"])
