"""The real server on a real port with the real nano, and OpenAI's own library as its client."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from facellm.cli.faces import open_finder
from facellm.core.package import ModelPackage
from facellm.engine.protocol import EngineOptions
from facellm.server.serving import Server

openai = pytest.importorskip("openai")

KEY = "a-key-of-the-tests"
#: A text that takes the engine some 5 s to read on one core of a busy machine.
LONG = "Describe this: " + "sea wind " * 600


@pytest.fixture(scope="session")
def server(nano: ModelPackage) -> Iterator[Server]:
    """At most two requests may wait."""
    options = EngineOptions(threads=1, context=4096)
    with Server(nano, KEY, open_finder, options=options, most_waiting=2) as running:
        running.load()
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0, timeout=120) as one:
        yield one


@pytest.fixture(scope="session")
def picture(astronaut: Path) -> dict[str, Any]:
    """A part of a message: the photo as a data URL."""
    data = base64.b64encode(astronaut.read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def about(*parts: Any) -> list[dict[str, Any]]:
    """One message of the user's: pictures as they are, texts as parts."""
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return [{"role": "user", "content": content}]


@pytest.fixture
def raw(server: Server) -> Iterator[Callable[..., tuple[int, dict[str, str], Any]]]:
    """HTTP by hand: status, headers and JSON of ``raw(method, path, body, **headers)``; all on one connection."""
    from http.client import HTTPConnection

    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)

    def ask(
        method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], Any]:
        known = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"} | (headers or {})
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, data, known)
        response = connection.getresponse()
        text = response.read()
        return response.status, dict(response.headers), json.loads(text) if text else None

    yield ask
    connection.close()


def hang_up_after_sending(server: Server, body: dict[str, Any]) -> socket.socket:
    """A connection on which a question has been sent and nothing was read; the caller closes it."""
    data = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.sendall(head.encode() + data)
    return connection
