"""The server's life: it listens, loads the model, answers, and ends with everything that it started."""

from __future__ import annotations

import contextlib
import errno
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from facellm.core.errors import FaceLLMError
from facellm.engine.client import EngineClient
from facellm.server.chat import Chat
from facellm.server.errors import ApiError
from facellm.server.handler import Handler
from facellm.server.lane import Lane
from facellm.server.reply import model_row

if TYPE_CHECKING:
    from facellm.core.package import ModelPackage
    from facellm.engine.protocol import EngineInfo, EngineOptions, Loading
    from facellm.vision.finder import FaceFinder

ADDRESS = "127.0.0.1"
#: Requests that may wait besides the one that is answered, and connections that may be open.
MOST_WAITING, MOST_CONNECTIONS = 16, 64
#: Seconds between two attempts to end what runs; the engine of a request that is just beginning starts after the first.
_AGAIN_S = 0.05
#: Seconds that the handlers get to say goodbye.
_GOODBYE_S = 1.0


class ServeError(FaceLLMError):
    """The server cannot be started as it was asked for."""


class Server:
    """A model behind an address on loopback. Listens from the beginning; answers once ``load`` has returned."""

    def __init__(
        self,
        package: ModelPackage,
        key: str,
        open_finder: Callable[[], FaceFinder],
        *,
        options: EngineOptions | None = None,
        port: int = 0,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        """``key``: what clients must know; ``port`` 0 takes a free one. Raises ``ServeError``."""
        self.key = key
        self.lane = Lane(most_waiting)
        self._package = package
        self._client = EngineClient(package, options)
        self.chat = Chat(self._client, open_finder)
        self._created = int(package.llm.stat().st_mtime)
        self._info: EngineInfo | None = None
        self._http = _listen(port, self)
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.1,), name="facellm-server", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        """What OpenAI's libraries call the base URL."""
        return f"http://{ADDRESS}:{self.port}/v1"

    @property
    def hosts(self) -> tuple[str, ...]:
        """What a client's ``Host`` may be."""
        return tuple(f"{name}:{self.port}" for name in (ADDRESS, "localhost"))

    @property
    def ready(self) -> bool:
        return self._info is not None

    @property
    def fingerprint(self) -> str:
        """What computes the answers."""
        return self._info.runtime if self._info is not None else ""

    @property
    def engine_pid(self) -> int | None:
        return self._client.pid

    def load(self, on_progress: Callable[[Loading], None] | None = None) -> EngineInfo:
        """Load the model. Raises the engine's errors."""
        self._info = self._client.load(on_progress)
        return self._info

    def stop(self) -> None:
        """End the answer that runs."""
        self._client.stop()

    def model_row(self) -> dict[str, Any]:
        """The model as ``/v1/models`` lists it."""
        return model_row(self._package.name, self._package.tile, self._created, self._info)

    def check_model(self, name: str) -> None:
        """Raises ``ApiError`` 404 for another model than the one that is loaded."""
        if name != self._package.name:
            raise ApiError(
                f"There is no model {name[:200]} here; there is {self._package.name}.",
                "Start another server for another model.",
                status=404,
                code="model_not_found",
                param="model",
            )

    def close(self) -> None:
        """End what runs, send away what waits, and end the engine; again is harmless."""
        self.lane.close()
        self._info = None
        self._http.shutdown()
        self._thread.join()
        until = time.monotonic() + _GOODBYE_S
        self._client.close()
        while not self.lane.empty and time.monotonic() < until:
            time.sleep(_AGAIN_S)
            self._client.close()
        self._http.end(until)
        self._client.close()
        self.chat.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS
    # On Windows the option lets another program take the same port.
    allow_reuse_address = sys.platform != "win32"

    def __init__(self, port: int, owner: Server) -> None:
        self.owner = owner
        self._open: dict[socket.socket, threading.Thread] = {}
        self._changed = threading.Lock()
        super().__init__((ADDRESS, port), Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's own asks a name server who this computer is
        self.server_name, self.server_port = ADDRESS, int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for each connection, named so that it can be found, up to a limit."""
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="facellm-server-client",
            daemon=True,
        )
        with self._changed:
            full = len(self._open) >= MOST_CONNECTIONS
            if not full:
                self._open[request] = thread
        if full:
            self.shutdown_request(request)
        else:
            thread.start()

    def shutdown_request(self, request: Any) -> None:
        with self._changed:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke; what was asked in it is not written anywhere."""

    def end(self, until: float) -> None:
        """Close the connections; at once those that nobody answers on, the others when they are done or it is late."""
        self.server_close()
        with self._changed:
            still = dict(self._open)
        for connection in still:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RD)
        for thread in still.values():
            thread.join(max(0.0, until - time.monotonic()))
        for connection in still:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in still.values():
            thread.join(_AGAIN_S)


def _listen(port: int, owner: Server) -> _Listener:
    try:
        return _Listener(port, owner)
    except (OSError, OverflowError) as error:
        code = error.errno if isinstance(error, OSError) else None
        if code == errno.EADDRINUSE:
            raise ServeError(f"Port {port} is in use.", "Choose another one, or 0 for any that is free.") from error
        reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
        raise ServeError(f"Port {port} cannot be opened: {reason}.", "Choose another one, or 0.") from error
