"""An OpenAI-compatible server on loopback that answers "B" with fixed probabilities; not every server gives those."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

#: First tokens and their probabilities; " B" and "B" are the same answer.
TOKENS = {"A": 0.2, "B": 0.4, " B": 0.1, "The": 0.2, "C": 0.05}


class ChatServer(ThreadingHTTPServer):
    """``logprobs``: "given"; "ignored" as by servers that do not know them; "refused" with an error.

    ``models``: what it lists, an error where there is no list. ``more``: fields added to each answer. ``dies_after``:
    answers after which it drops every connection. ``newer``: takes ``max_completion_tokens`` only.
    """

    daemon_threads = True

    def __init__(self, logprobs: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.logprobs = logprobs
        self.requests: list[dict[str, Any]] = []
        self.models: list[dict[str, Any]] = []
        self.more: dict[str, Any] = {}
        self.dies_after = 10**9
        self.newer = False

    @property
    def model(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1#drawn-model"


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_GET(self) -> None:
        if self.server.models:
            self._send(200, {"object": "list", "data": self.server.models})
        else:
            self._send(404, {"error": {"message": "no list here"}})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if len(self.server.requests) >= self.server.dies_after:
            self.close_connection = True
            return
        self.server.requests.append(asked)
        if self.server.newer and "max_tokens" in asked:
            self._send(400, {"error": {"message": "Use 'max_completion_tokens' instead of 'max_tokens'."}})
            return
        if self.server.logprobs == "refused" and "top_logprobs" in asked:
            self._send(400, {"error": {"message": "top_logprobs is not supported"}})
            return
        choice: dict[str, Any] = {
            "index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "The answer is (B)."},
        }  # fmt: skip
        if self.server.logprobs == "given":
            top = [{"token": token, "logprob": math.log(p), "bytes": None} for token, p in TOKENS.items()]
            choice["logprobs"] = {"content": [{**top[1], "top_logprobs": top}]}
        whole = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        self._send(200, whole | self.server.more)

    def _send(self, code: int, row: dict[str, Any]) -> None:
        data = json.dumps(row).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def chat_server(logprobs: str) -> Iterator[ChatServer]:
    server = ChatServer(logprobs)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
