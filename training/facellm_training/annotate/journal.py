"""What was asked, answered and paid, on disk before the run goes on.

SQLite and not a file of lines: an answer, its price and its state must change together, a run looks up single ids
among hundreds of thousands, and a torn last write is SQLite's business. Each change is one transaction that is on the
disk when the call returns (``synchronous=FULL``). The journal is locked for as long as it is open, so that two runs
never ask for the same thing.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from facellm.core.errors import FaceLLMError
from facellm_training.annotate.files import DiskFull

#: ``state``: open (not asked, or asked in vain), sent (asked; whether it was answered is not known), batched,
#: answered, rejected (the server will never answer it). ``reserved``: dollars that it may cost at most.
_TABLES = """
CREATE TABLE IF NOT EXISTS requests (
    id TEXT PRIMARY KEY, state TEXT NOT NULL, tries INTEGER NOT NULL DEFAULT 0, reserved REAL NOT NULL DEFAULT 0,
    lost REAL NOT NULL DEFAULT 0, part INTEGER, text TEXT, finish TEXT, model TEXT, prompt_tokens INTEGER,
    completion_tokens INTEGER, cost REAL NOT NULL DEFAULT 0, problem TEXT, verdict TEXT
);
CREATE INDEX IF NOT EXISTS by_part ON requests (part);
CREATE TABLE IF NOT EXISTS parts (
    part INTEGER PRIMARY KEY, state TEXT NOT NULL, file_id TEXT, batch_id TEXT, problem TEXT
);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class JournalError(FaceLLMError):
    """The journal cannot be read or written."""


class JournalBusy(FaceLLMError):
    """Another run has the journal."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came; ``finish`` is the server's finish_reason, "refusal" where it says that it refuses."""

    text: str
    finish: str
    model: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Row:
    """One request as the journal knows it."""

    id: str
    state: str
    tries: int
    reply: Reply | None
    problem: str


class Journal:
    """A context manager. ``spent``: dollars paid, or perhaps paid, so far."""

    def __init__(self, path: Path) -> None:
        """Open or begin. Raises ``JournalBusy`` or ``JournalError``."""
        self._path = path
        self.spent = 0.0
        with self._told():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(path, isolation_level=None, timeout=1.0)
            self._base.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=FULL")
            self._base.executescript(_TABLES)
            self.fact("run", self.fact("run") or uuid.uuid4().hex)  # a write also takes the lock
            paid = self._base.execute("SELECT total(cost) + total(reserved) + total(lost) FROM requests").fetchone()
        self.spent = float(paid[0])

    def fact(self, name: str, value: str | None = None) -> str:
        """A named value of the whole run, "" where there is none; set where ``value`` is given."""
        with self._told():
            if value is not None:
                self._base.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))
            row = self._base.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def state(self, request: str) -> str:
        """ "open" also for what was never mentioned."""
        row = self._base.execute("SELECT state FROM requests WHERE id = ?", (request,)).fetchone()
        return str(row[0]) if row else "open"

    def states(self) -> dict[str, str]:
        """Every request that was ever asked."""
        return dict(self._base.execute("SELECT id, state FROM requests"))

    def rows(self) -> dict[str, Row]:
        """Everything, by id."""
        columns = "id, state, tries, text, finish, model, prompt_tokens, completion_tokens, problem"
        found = {}
        for key, state, tries, text, finish, model, asked, said, problem in self._base.execute(
            f"SELECT {columns} FROM requests"  # noqa: S608 - names from the line above
        ):
            reply = Reply(text, finish, model, asked, said) if state == "answered" else None
            found[key] = Row(key, state, tries, reply, problem or "")
        return found

    def sent(self, request: str, most: float) -> None:
        """It is about to leave and may cost ``most`` dollars."""
        with self._told():
            self._base.execute(
                "INSERT INTO requests (id, state, tries, reserved) VALUES (?1, 'sent', 1, ?2) ON CONFLICT (id) DO "
                "UPDATE SET state = 'sent', tries = tries + 1, reserved = ?2",
                (request, most),
            )
        self.spent += most

    def back(self, request: str, problem: str, *, lost: bool = False) -> None:
        """Not answered, may be asked again. ``lost``: its answer may have been paid for all the same."""
        with self._told():
            held = self._held(request)
            self._base.execute(
                "UPDATE requests SET state = 'open', part = NULL, lost = lost + ?, reserved = 0, problem = ? "
                "WHERE id = ?",
                (held if lost else 0.0, problem[:500], request),
            )
        self.spent -= 0.0 if lost else held

    def answered(self, request: str, reply: Reply, cost: float) -> None:
        """Its answer is here, for ``cost`` dollars."""
        with self._told():
            held = self._held(request)
            self._base.execute(
                "UPDATE requests SET state = 'answered', reserved = 0, cost = ?, text = ?, finish = ?, model = ?, "
                "prompt_tokens = ?, completion_tokens = ?, problem = NULL WHERE id = ?",
                (cost, reply.text, reply.finish, reply.model, reply.prompt_tokens, reply.completion_tokens, request),
            )
        self.spent += cost - held

    def rejected(self, request: str, problem: str) -> None:
        """The server says that it will not answer this."""
        self.back(request, problem)
        with self._told():
            self._base.execute("UPDATE requests SET state = 'rejected' WHERE id = ?", (request,))

    def _held(self, request: str) -> float:
        row = self._base.execute("SELECT reserved FROM requests WHERE id = ?", (request,)).fetchone()
        return float(row[0]) if row else 0.0

    def new_part(self, requests: Iterable[tuple[str, float]]) -> int:
        """A part of a batch with these requests and what each may cost; its number."""
        with self.together():
            part = int(self._base.execute("SELECT coalesce(max(part), 0) + 1 FROM parts").fetchone()[0])
            self._base.execute("INSERT INTO parts (part, state) VALUES (?, 'prepared')", (part,))
            for request, most in requests:
                self._base.execute(
                    "INSERT INTO requests (id, state, tries, reserved, part) VALUES (?1, 'batched', 1, ?2, ?3) "
                    "ON CONFLICT (id) DO UPDATE SET state = 'batched', tries = tries + 1, reserved = ?2, part = ?3",
                    (request, most, part),
                )
                self.spent += most
        return part

    def part_changed(self, part: int, **values: str) -> None:
        """``values``: state, file_id, batch_id, problem."""
        assert set(values) <= {"state", "file_id", "batch_id", "problem"}
        with self._told():
            for name, value in values.items():
                self._base.execute(f"UPDATE parts SET {name} = ? WHERE part = ?", (value, part))  # noqa: S608

    def open_parts(self) -> list[tuple[int, str, str]]:
        """Number, file's id and batch's id ("" where not known yet) of parts that are not finished."""
        rows = self._base.execute("SELECT part, file_id, batch_id FROM parts WHERE state IN ('prepared', 'submitted')")
        return [(part, file or "", batch or "") for part, file, batch in rows]

    def in_part(self, part: int) -> list[str]:
        """Ids that wait for their answer from this part."""
        rows = self._base.execute(
            "SELECT id FROM requests WHERE part = ? AND state = 'batched' ORDER BY rowid", (part,)
        )
        return [row[0] for row in rows]

    def judged(self, verdicts: dict[str, str]) -> None:
        """Keep why each answer was dropped; "" where it was kept."""
        with self.together():
            self._base.executemany(
                "UPDATE requests SET verdict = ? WHERE id = ?", [(v, k) for k, v in verdicts.items()]
            )

    def totals(self) -> dict[str, Any]:
        """Counts and sums for the report."""
        names = "prompt_tokens", "completion_tokens", "cost", "lost", "tries"
        sums = ", ".join(f"total({name})" for name in names)
        row = self._base.execute(f"SELECT {sums} FROM requests").fetchone()  # noqa: S608 - names from above
        again = self._base.execute("SELECT count(*) FROM requests WHERE lost > 0").fetchone()[0]
        return dict(zip(names, row, strict=True)) | {"perhaps_paid_twice": again}

    @contextmanager
    def together(self) -> Iterator[None]:
        """Several changes, all of them or none."""
        before = self.spent
        with self._told():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._base.execute("COMMIT")
            except BaseException:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                self.spent = before
                raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _as_error(error, self._path) from error
        except OSError as error:
            raise JournalError(f"The journal {self._path} cannot be opened: {error.strerror}.") from error

    def close(self) -> None:
        self._base.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _as_error(error: sqlite3.Error, path: Path) -> FaceLLMError:
    text = str(error)
    if "full" in text or "disk I/O" in text:
        return DiskFull(
            "The disk is full: the journal takes no more. What was answered so far is kept.",
            "Free some space and give the same command again; it goes on where it was.",
        )
    if "locked" in text:
        return JournalBusy(
            f"Another run is using {path.parent}.", "Wait for it, or give the recipe another out folder."
        )
    return JournalError(
        f"The journal {path} cannot be used: {text}.",
        "It holds what was paid for: keep a copy of it before you move it away to begin anew.",
    )


def reply_of(completion: dict[str, Any]) -> Reply:
    """The parts that matter of a chat completion's JSON. Raises ``ValueError`` when it is none."""
    try:
        choice = completion["choices"][0]
        message, usage = choice["message"], completion.get("usage") or {}
        refusal = message.get("refusal") or ""
        text = message.get("content") or refusal
        if not isinstance(text, str):
            raise ValueError("the answer's content is not text")
        asked, said = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
        finish = "refusal" if refusal else choice.get("finish_reason") or ""
        return Reply(text, finish, str(completion.get("model") or ""), int(asked), int(said))
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"not a chat completion: {json.dumps(completion)[:200]}") from error


def stamp() -> str:
    """Today's date, ISO 8601."""
    return time.strftime("%Y-%m-%d", time.gmtime())
