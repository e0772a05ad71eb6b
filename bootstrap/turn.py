"""One at a time: a lock between processes that the system frees when its holder dies."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bootstrap.console import PASSED_ON, say


@contextmanager
def alone(path: Path, waiting: str) -> Iterator[None]:
    """Hold the lock ``path``; says ``waiting`` once when another process holds it.

    Where this process is killed, a program that it started by ``run_step`` holds the lock to its own end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if not _take(file):
            say(waiting)
            while not _take(file):
                time.sleep(0.2)
        passed = {file.fileno()} if os.name == "posix" else set()
        PASSED_ON.update(passed)
        try:
            yield
        finally:
            PASSED_ON.difference_update(passed)
            _give(file)


if sys.platform == "win32":
    import msvcrt

    def _take(file: BinaryIO) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _give(file: BinaryIO) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _take(file: BinaryIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _give(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
