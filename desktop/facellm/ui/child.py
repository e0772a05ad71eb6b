"""Long work in a process of its own, which can be cancelled at any time and frees its memory.

The child is given an order as the first line of its standard input, and writes one JSON object a line; it ends when
that input is closed, so it never outlives the window.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from facellm.core.child import child_command
from facellm.core.errors import FaceLLMError

#: Seconds that a child gets to delete its half-written files before it is killed.
GRACE_S = 3.0

Message = dict[str, Any]


class ChildTask:
    """One run of a child; ``run`` keeps its thread busy, ``cancel`` comes from another, at any time, and does not wait.

    A kind of work says which module's ``main`` does it, what it is called, its two errors, and what may help where the
    child ends without a word.
    """

    module: ClassVar[str]
    what: ClassVar[str]
    cancelled_error: ClassVar[type[FaceLLMError]]
    failed_error: ClassVar[type[FaceLLMError]]
    needs: ClassVar[str]

    def __init__(self, order: Mapping[str, object] | None = None) -> None:
        self._order = order
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._killer: threading.Timer | None = None

    @property
    def cancelled(self) -> bool:
        """Whether ``cancel`` was called."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Have the work end: ``run`` raises the error of a cancelled one as soon as the child is gone."""
        with self._lock:
            if self._process is not None and not self._cancelled.is_set():
                self._end(self._process)
            self._cancelled.set()

    def _run(self, hear: Callable[[Message], None]) -> None:
        """Hand over what the child says; returns when it is gone. Raises the two errors."""
        self._raise_if_cancelled()
        process = self._start()
        with self._lock:
            self._process = process
            if self._cancelled.is_set():  # while the child was being started
                self._end(process)
        try:
            with process:
                error = self._listen(process, hear)
        finally:
            with self._lock:
                self._process = None
                if self._killer is not None:
                    self._killer.cancel()
        self._raise_if_cancelled()
        if error is not None:
            raise error
        if process.returncode != 0:
            raise self.failed_error(f"The {self.what} ended unexpectedly (exit code {process.returncode}).", self.needs)

    def _start(self) -> subprocess.Popen[str]:
        try:
            process = subprocess.Popen(
                child_command(self.module), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )  # fmt: skip
        except OSError as error:
            raise self.failed_error(
                f"The {self.what} cannot be started: {error.strerror or error}.", "Close other programs and try again."
            ) from error
        if self._order is not None and process.stdin is not None:
            with contextlib.suppress(OSError):  # a child that is gone is noticed by its exit code
                process.stdin.write(json.dumps(self._order) + "\n")
                process.stdin.flush()
        return process

    def _listen(self, process: subprocess.Popen[str], hear: Callable[[Message], None]) -> FaceLLMError | None:
        """Pass on what the child says until it ends; the error that it said."""
        error = None
        for line in process.stdout or ():
            message = json.loads(line)
            if "error" in message:
                error = self.failed_error(message["error"], message["hint"])
            else:
                hear(message)
        return error

    def _end(self, process: subprocess.Popen[str]) -> None:
        """The child ends when its input closes. ``run`` is reading from it: if it does not end, a timer kills it."""
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        self._killer = threading.Timer(GRACE_S, process.kill)
        self._killer.daemon = True
        self._killer.start()

    def _raise_if_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise self.cancelled_error(f"The {self.what} was cancelled.")
