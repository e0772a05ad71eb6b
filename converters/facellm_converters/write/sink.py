"""A file that is hashed and brought to the disk while it is still being written."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import BoundedSemaphore
from types import TracebackType
from typing import BinaryIO, Self

#: Pieces that wait to be hashed, at most: they are memory.
WAITING = 32
#: Bytes after which the system is asked to write what it holds: at the end that would take as long as the rest.
SYNC = 128 << 20
_HEAD = 1 << 20


class Sink:
    """Wraps an open file whose head is written already; a context manager."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._room = BoundedSemaphore(WAITING)
        self._behind = ThreadPoolExecutor(1, "hash")
        self._syncing = ThreadPoolExecutor(1, "sync")
        self._jobs: list[Future[None]] = []
        self._unsynced = 0
        file.flush()
        with Path(file.name).open("rb") as head:
            while piece := head.read(_HEAD):
                self._digest.update(piece)

    def write(self, data: memoryview | bytes) -> None:
        """Append; ``data`` must not be changed afterwards. Raises ``OSError``."""
        self._file.write(data)
        self._room.acquire()
        self._behind.submit(self._hash, data)
        self._unsynced += len(data)
        if self._unsynced >= SYNC:
            self._unsynced = 0
            self._file.flush()
            self._jobs.append(self._syncing.submit(os.fsync, self._file.fileno()))

    def _hash(self, data: memoryview | bytes) -> None:
        try:
            self._digest.update(data)
        finally:
            self._room.release()

    def finish(self) -> str:
        """Wait until all of it is on the disk; the hash in hexadecimal. Raises ``OSError``."""
        self._file.flush()
        self._jobs.append(self._syncing.submit(os.fsync, self._file.fileno()))
        self._behind.shutdown()
        for job in self._jobs:
            job.result()
        return self._digest.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._behind.shutdown(cancel_futures=True)
        self._syncing.shutdown(cancel_futures=True)
