"""A server with ranges and faults on demand, and a small asset to fetch from it."""

from __future__ import annotations

import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event

from facellm.models.manifest import Asset, Source

PAYLOAD = bytes(range(256)) * 4000


class FileServer(ThreadingHTTPServer):
    """Serves ``payload`` at every path.

    ``cut_after``: bytes after which the connection breaks, once each; ``stall_after``: bytes after which
    nothing more comes until ``go_on`` is set; ``status``: answered in place of 200, once each.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.payload = PAYLOAD
        self.cut_after: list[int] = []
        self.stall_after: int | None = None
        self.go_on = Event()
        self.stalled = Event()
        self.ranges: list[str] = []
        self.statuses: list[int] = []
        self.ignores_ranges = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/asset.bin"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, FileServer)
        wanted = self.headers.get("Range", "")
        server.ranges.append(wanted)
        if server.statuses:
            self.send_error(server.statuses.pop(0))
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and not server.ignores_ranges else 0
        body = server.payload[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.payload) - 1}/{len(server.payload)}")
        self.end_headers()
        if server.cut_after:
            self.wfile.write(body[: server.cut_after.pop(0)])
            self.wfile.flush()
            self.connection.close()
        elif server.stall_after is not None:
            self.wfile.write(body[: server.stall_after])
            self.wfile.flush()
            server.stalled.set()
            server.go_on.wait(60)
        else:
            self.wfile.write(body)

    def log_message(self, _format: str, *args: object) -> None:
        """Quiet: the test prints what matters."""


def asset_from(*sources: Source, payload: bytes = PAYLOAD) -> Asset:
    return Asset(
        "thing", "A thing", "MIT", "us", "thing.bin", len(payload), hashlib.sha256(payload).hexdigest(), sources
    )
