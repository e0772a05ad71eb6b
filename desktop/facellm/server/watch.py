"""Notices that a client hangs up while its answer is being made."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from facellm.server.lane import LOOK_S


def has_hung_up(connection: socket.socket) -> bool:
    """Whether the other side has closed; bytes that lie unread (its next request) are left there."""
    try:
        readable = select.select([connection], [], [], 0)[0]
        return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):
        return True


class Watch:
    """A context in which ``stop`` is called once the client has hung up, again and again until the context is left:
    a stop that comes before the engine has begun is lost."""

    def __init__(self, connection: socket.socket, stop: Callable[[], None]) -> None:
        self._connection, self._stop = connection, stop
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, name="facellm-server-watch", daemon=True)
        self.gone = False

    def _look(self) -> None:
        while not self._done.wait(LOOK_S):
            self.gone = self.gone or has_hung_up(self._connection)
            if self.gone:
                self._stop()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
