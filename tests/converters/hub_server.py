"""A server that speaks as much of the hub's language as is used, with the faults that a test wants."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote, unquote, urlsplit

import numpy as np
import pytest
from huggingface_hub import close_session, constants
from safetensors.numpy import save

from facellm_converters.checkpoint.source import resolve

REPO, COMMIT = "faces/tiny", "c0ffee" * 6 + "abcd"
#: Arrives in eight pieces and a little.
LARGE = save({"w": np.arange(1 << 19, dtype=np.float32)})
SMALL = {"config.json": b'{"model_type": "tiny"}', "tokenizer.json": b"{}", "README.md": b"# Tiny\n"}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Seen:
    path: str
    range: str
    authorization: str


@dataclass
class Faults:
    """``cut_after``: bytes after which the connection breaks, once each; ``answers``: path → status, error code."""

    cut_after: list[int] = field(default_factory=list)
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    ignores_ranges: bool = False
    page: bytes | None = None


class Hub(ThreadingHTTPServer):
    """A hub with one model; weights lie on ``store``, another server, and the rest elsewhere on itself, as the
    real hub's do.
    """

    daemon_threads = True

    def __init__(self, store: Hub | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.store = store
        self.files: dict[str, bytes] = {}
        self.sent: dict[str, bytes] = {}
        self.sizes: dict[str, int] = {}
        self.seen: list[Seen] = []
        self.faults = Faults()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def siblings(self) -> list[dict[str, object]]:
        rows = []
        for name, data in self.files.items():
            row: dict[str, object] = {
                "rfilename": name,
                "size": self.sizes.get(name, len(data)),
                "blobId": git_sha1(data),
            }
            if name.endswith((".safetensors", ".bin")):
                row["lfs"] = {"size": row["size"], "sha256": sha256(data), "pointerSize": 130}
            rows.append(row)
        return rows

    def asked(self, end: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.path.endswith(end)]


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        hub = self.server
        assert isinstance(hub, Hub)
        path = unquote(urlsplit(self.path).path)
        hub.seen.append(Seen(path, self.headers.get("Range", ""), self.headers.get("Authorization", "")))
        status, code = next((hub.faults.answers[end] for end in hub.faults.answers if path.endswith(end)), (0, ""))
        name = path.rpartition("/")[2]
        if status:
            self._send(status, b"", {"X-Error-Code": code} if code else {})
        elif hub.faults.page is not None:
            self._send(200, hub.faults.page)
        elif path.startswith("/api/models/"):
            self._send(200, json.dumps({"id": REPO, "sha": COMMIT, "siblings": hub.siblings()}).encode())
        elif hub.store is not None and name.endswith(".safetensors"):
            hub.store.files[name], hub.store.faults = hub.sent.get(name, hub.files[name]), hub.faults
            self._send(302, b"", {"Location": f"{hub.store.url}/{name}"})
        elif "/resolve/" in path:
            self._send(307, b"", {"Location": f"/api/resolve-cache/models/{REPO}/{COMMIT}/{quote(name)}"})
        else:
            self._file(hub, hub.sent.get(name, hub.files[name]))

    def _file(self, hub: Hub, data: bytes) -> None:
        wanted = self.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and not hub.faults.ignores_ranges else 0
        more = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        self._send(206 if start else 200, data[start:], more)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        hub = self.server
        assert isinstance(hub, Hub)
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if hub.store is None and hub.faults.cut_after:
            self.wfile.write(body[: hub.faults.cut_after.pop(0)])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        with suppress(ConnectionError):  # who asked went away, which a test wanted
            self.wfile.write(body)

    def log_message(self, _format: str, *args: object) -> None:
        """Quiet."""


def running(server: Hub) -> Iterator[Hub]:
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def hub_with_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub that is asked, running, and its store; nobody is logged in, whatever this machine's settings are."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "FACELLM_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    close_session()
    for store in running(Hub()):
        for hub in running(Hub(store)):
            hub.files = {**SMALL, "model.safetensors": LARGE, "modeling_tiny.py": b"boom()", "pytorch_model.bin": b"x"}
            monkeypatch.setenv("HF_ENDPOINT", hub.url)
            yield hub
    close_session()


def quiet(_step: str, _done: int, _whole: int) -> None:
    pass


def fetched(cache: Path, name: str = REPO, revision: str | None = None) -> Path:
    return resolve(name, revision=revision, cache=cache, tell=quiet)


def left_over(cache: Path) -> list[str]:
    """Files whose names say that they are not whole."""
    return [path.name for path in cache.rglob("*.incomplete")]
