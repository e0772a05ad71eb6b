"""A server with ranges, faults on demand, and small assets to fetch from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from facellm.models.manifest import Asset, Source

PAYLOAD = bytes(range(256)) * 4000


class FileServer(ThreadingHTTPServer):
    """Serves ``PAYLOAD`` at every path. ``cut_after``: bytes after which the connection breaks, once each."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.payload = PAYLOAD
        self.cut_after: list[int] = []
        self.ranges: list[str] = []
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/asset.bin"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, FileServer)
        wanted = self.headers.get("Range", "")
        server.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if server.status != 200:
            self.send_error(server.status)
            return
        body = server.payload[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.cut_after:
            self.wfile.write(body[: server.cut_after.pop(0)])
            self.wfile.flush()
            self.connection.close()
            return
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: the test prints what matters."""


@pytest.fixture
def server() -> Iterator[FileServer]:
    running = FileServer()
    thread = Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def asset_from(*sources: Source, payload: bytes = PAYLOAD) -> Asset:
    return Asset(
        "thing", "A thing", "MIT", "us", "thing.bin", len(payload), hashlib.sha256(payload).hexdigest(), sources
    )
