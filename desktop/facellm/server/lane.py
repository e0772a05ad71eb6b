"""One answer at a time: the others wait in the order in which they came."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from facellm.server.errors import ApiError, ClientGone, closing

#: Seconds between two looks whether a waiting client is still there.
LOOK_S = 0.1
#: Seconds that a client is told to wait at most when the queue is full.
LONGEST_RETRY = 60


class Lane:
    """The engine's one lane. Any thread may call any method."""

    def __init__(self, most_waiting: int) -> None:
        """``most_waiting``: requests beyond the one that runs; more are refused."""
        self._most_waiting = most_waiting
        self._changed = threading.Condition()
        self._line: list[object] = []
        self._closed = False
        self._last_s = 1.0

    @property
    def empty(self) -> bool:
        return not self._line

    @property
    def closed(self) -> bool:
        return self._closed

    @contextmanager
    def turn(self, is_gone: Callable[[], bool]) -> Iterator[None]:
        """Wait for the lane and hold it.

        Raises ``ApiError`` 429 when too many wait already, 503 when the lane is closed meanwhile, ``ClientGone``.
        """
        ticket = object()
        self._join(ticket)
        try:
            self._wait(ticket, is_gone)
            begun = time.monotonic()
            yield
            self._last_s = time.monotonic() - begun
        finally:
            with self._changed:
                self._line.remove(ticket)
                self._changed.notify_all()

    def close(self) -> None:
        """Send away who waits, and everybody who comes later."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _join(self, ticket: object) -> None:
        with self._changed:
            if self._closed:
                raise closing()
            if len(self._line) > self._most_waiting:
                seconds = min(LONGEST_RETRY, max(1, math.ceil(self._last_s * len(self._line))))
                raise ApiError(
                    f"{self._most_waiting} requests wait already; one is answered at a time.",
                    f"Ask again in {seconds} s, and fewer at once.",
                    status=429,
                    code="queue_full",
                    retry_after=seconds,
                )
            self._line.append(ticket)

    def _wait(self, ticket: object, is_gone: Callable[[], bool]) -> None:
        with self._changed:
            while self._line[0] is not ticket and not self._closed:
                if is_gone():
                    raise ClientGone
                self._changed.wait(LOOK_S)
            if self._closed:
                raise closing()
