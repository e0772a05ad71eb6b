"""The child process seen from its parent: how it is started, talked to, and what is known when it dies."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from typing import BinaryIO, Final, cast

from facellm.core import child
from facellm.engine import wire
from facellm.engine.protocol import Command, Reply

#: Seconds that a child gets to end by itself before it is killed.
GRACE_S = 1.0
#: A wait without an end is cut into pieces of so many seconds: on Windows nothing, Ctrl-C included, ends a longer one.
WAIT_S = 0.2 if sys.platform == "win32" else None
#: Lines of the child's standard error that are kept, and how many of them an error message quotes.
LAST_LINES = 60
QUOTED_LINES = 3

#: What llama.cpp and Python's faulthandler write when a process dies.
_TELLING = re.compile(r"GGML_ASSERT|Fatal Python error|rror:")

#: The child's environment, where the user has not set these.
#: GOMP_SPINCOUNT: how long a thread of llama.cpp turns in circles until the others are done, before it sleeps. With
#: libgomp's own 300,000 two threads on two busy cores nearly stand still, because the one that is waited for has no
#: core; with 200 a thread sleeps at every one of the 500 operations of a token, and waking it costs more than the
#: work. ``python3 run.py bench spins``, tokens a second (nano, 2 threads, 2 cores; alone / beside 1 / 2 busy
#: processes): 200: 35 / 33 / 15, 1000: 64 / 29 / 24, 4000: 67 / 18 / 14, 20,000: 70 / 12 / 31.
_ENVIRONMENT = {
    "GGML_NO_BACKTRACE": "1",  # or a failed assertion starts a debugger
    "GOMP_SPINCOUNT": "1000",
    "PYTHONUNBUFFERED": "1",
    "PYTHONUTF8": "1",
}


class Nudge:
    """Given by :meth:`Child.receive` after :meth:`Child.nudge`: look up from waiting."""


NUDGE: Final = Nudge()


def child_command() -> list[str]:
    """The command line of the child.

    Not multiprocessing: its spawn imports the parent's main module once more (for us the window), keeps a
    tracker process beside the child, and its two-way pipe is a socket where an offline program has none.
    """
    return child.child_command("facellm.engine.worker")


class Child:
    """One running child. Its two threads only move bytes out of the pipes; any thread may call any method."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            child_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=_ENVIRONMENT | os.environ, creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )  # fmt: skip
        self._replies: queue.SimpleQueue[Reply | Nudge | None] = queue.SimpleQueue()
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)
        #: The child was ended because it sent something that this program cannot read.
        self.unreadable = False
        self._sending = threading.Lock()
        self._threads = [
            threading.Thread(target=self._read_replies, name="facellm-engine-replies", daemon=True),
            threading.Thread(target=self._read_errors, name="facellm-engine-errors", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, command: Command) -> None:
        """Hand a command over. That the child is gone is noticed by :meth:`receive`, not here."""
        with self._sending, contextlib.suppress(OSError, ValueError):
            wire.send(cast(BinaryIO, self._process.stdin), command)

    def nudge(self) -> None:
        """Make a waiting :meth:`receive` return :data:`NUDGE`."""
        self._replies.put(NUDGE)

    def receive(self, timeout: float | None = None) -> Reply | Nudge | None:
        """The next reply; ``None``, for ever, after the child's end. Raises ``TimeoutError``."""
        reply = self._next_reply(timeout)
        if reply is None:
            self._replies.put(None)
        return reply

    def _next_reply(self, timeout: float | None) -> Reply | Nudge | None:
        while True:
            try:
                return self._replies.get(timeout=WAIT_S if timeout is None else timeout)
            except queue.Empty:
                if timeout is not None:
                    raise TimeoutError from None

    def end(self, *, now: bool = False) -> None:
        """Let the child end, which it does when its pipe closes, or kill it at once; returns when it is gone."""
        if now:
            self._process.kill()
        elif self._sending.acquire(timeout=GRACE_S):
            with contextlib.suppress(OSError):
                cast(BinaryIO, self._process.stdin).close()
            self._sending.release()
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._release()

    def autopsy(self) -> tuple[str, list[str]]:
        """Why the child ended ("signal SIGKILL", "exit code 3") and what it wrote about it. Waits for its end."""
        self._process.wait()
        self._release()
        code = self._process.returncode
        if self.unreadable:
            reason = "it is of another version than this program"
        elif code >= 0:
            reason = f"exit code {code:#x}" if code > 0xFF else f"exit code {code}"
        elif -code in set(signal.Signals):
            reason = f"signal {signal.Signals(-code).name}"
        else:
            reason = f"signal {-code}"
        return reason, _last_words(list(self._last_lines))

    def _release(self) -> None:
        for thread in self._threads:
            thread.join()
        with self._sending:
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                with contextlib.suppress(OSError):
                    cast(BinaryIO, pipe).close()

    def _read_replies(self) -> None:
        pipe = cast(BinaryIO, self._process.stdout)
        try:
            while True:
                self._replies.put(cast(Reply, wire.receive(pipe)))
        except (
            wire.Unreadable
        ) as error:  # the program was changed under a running window: its child is of another version
            self._last_lines.append(f"Error: {error}")
            self.unreadable = True
            self._process.kill()
        except (EOFError, OSError, ValueError):
            pass
        finally:
            self._replies.put(None)

    def _read_errors(self) -> None:
        pipe = cast(BinaryIO, self._process.stderr)
        with contextlib.suppress(OSError, ValueError):
            for line in pipe:
                self._last_lines.append(line.decode("utf-8", "replace").rstrip())


def _last_words(lines: list[str]) -> list[str]:
    """What went wrong and where in the program; without such lines, the last ones."""
    wrong = [line.strip() for line in lines if _TELLING.search(line)][: QUOTED_LINES - 1]
    where = [line.strip() for line in lines if line.startswith("  File ")][:1]
    return wrong + where if wrong else [line.strip() for line in lines if line.strip()][-QUOTED_LINES:]
