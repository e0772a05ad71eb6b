"""One connection: who may come in, what is asked, and how the answer goes out. Nothing is logged."""

from __future__ import annotations

import contextlib
import hmac
import json
import socket
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from facellm.server.errors import ApiError, ClientGone, as_api_error, closing
from facellm.server.reply import Reply
from facellm.server.request import ChatRequest, read_request
from facellm.server.watch import Watch, has_hung_up

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from facellm.core.faces import RgbImage
    from facellm.server.chat import Part
    from facellm.server.serving import Server

#: Bytes of a request's body: sixteen pictures of 1.5 MB as base64.
MOST_BODY = 32 << 20
#: A body that is refused is read away for so long and so far, so that its sender gets to read why.
_DRAIN_S, _DRAIN_BYTES = 5.0, 4 * MOST_BODY
#: Seconds that a client may neither send nor take anything, between two requests too.
SILENCE_S = 30.0

_CHAT, _MODELS, _HEALTH = "/v1/chat/completions", "/v1/models", "/health"
_Headers = dict[str, str]


class Handler(BaseHTTPRequestHandler):
    """Its ``server`` is the one of ``serving``."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = SILENCE_S

    @property
    def _server(self) -> Server:
        return self.server.owner  # type: ignore[attr-defined, no-any-return]

    def version_string(self) -> str:
        """What the header Server says: not which Python."""
        return "facellm"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing is written down."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET  # noqa: N815 - http.server's names

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """What http.server itself refuses, such as a broken request line, in the form of all errors."""
        self.close_connection = True
        self.request_version = self.protocol_version  # else a broken request line is taken for HTTP/0.9's
        self._send_error(ApiError(message or "This is no HTTP request.", status=int(code)))

    def _serve(self) -> None:
        self._unread = True
        self._streaming = False
        try:
            self._check_caller()
            self._route(self.path.partition("?")[0])
        except (ClientGone, ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception as error:  # noqa: BLE001 - the boundary of a request: the next one is not to suffer
            with contextlib.suppress(OSError):
                self._failed(as_api_error(error))

    # ---- who may come in

    def _check_caller(self) -> None:
        """A page in a browser can reach loopback, under a name of its own too; nothing of a browser is let in."""
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or hosts[0].lower() not in self._server.hosts:
            raise ApiError(f"This server answers to {self._server.hosts[0]} only.", status=403, code="wrong_host")
        if self.headers.get("Origin") is not None:
            raise ApiError("Web pages are not served.", "Ask from a program.", status=403, code="origin_refused")
        if self.command != "POST" and self._has_body():
            self.close_connection = True  # nobody reads it

    def _check_key(self) -> None:
        kind, _, key = (self.headers.get("Authorization") or "").partition(" ")
        known = hmac.compare_digest(key.strip().encode("utf-8", "replace"), self._server.key.encode())
        if kind.lower() != "bearer" or not known:
            raise ApiError(
                "The key is missing or wrong.",
                "Send it as Authorization: Bearer KEY; the server says it, or its variable, when it starts.",
                status=401,
                code="invalid_api_key",
            )

    # ---- what is asked

    def _route(self, path: str) -> None:
        if path != _HEALTH:
            self._check_key()
        wanted = {_HEALTH: "GET", _MODELS: "GET", _CHAT: "POST"}.get(path)
        if path.startswith(f"{_MODELS}/"):
            wanted = "GET"
        if wanted is None:
            raise ApiError(f"There is no {path[:200]}.", f"There are {_CHAT}, {_MODELS}, {_HEALTH}.", status=404)
        if self.command != wanted:
            raise ApiError(f"{path} takes {wanted}.", status=405, code="method_not_allowed")
        if path == _CHAT:
            self._chat()
        elif path == _HEALTH:
            ready = self._server.ready
            self._send_json({"status": "ok" if ready else "loading"}, 200 if ready else 503)
        elif path == _MODELS:
            self._send_json({"object": "list", "data": [self._server.model_row()]})
        else:
            self._server.check_model(path.removeprefix(f"{_MODELS}/"))
            self._send_json(self._server.model_row())

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding"):
            raise ApiError("The body must have a Content-Length.", status=411, code="length_required")
        text = self.headers.get("Content-Length", "")
        if not text.isascii() or not text.isdigit():
            raise ApiError("The body must have a Content-Length.", status=411, code="length_required")
        if len(text) > 18 or int(text) > MOST_BODY:
            raise ApiError(
                f"The request has {text[:18]} bytes; at most {MOST_BODY} are taken.",
                "Send smaller or fewer pictures.",
                status=413,
                code="request_too_large",
            )
        if self.headers.get_content_type() != "application/json":
            raise ApiError("The body must be application/json.", status=415, code="unsupported_media_type")
        body = self.rfile.read(int(text))
        if len(body) != int(text):
            raise ClientGone
        self._unread = False
        return body

    def _chat(self) -> None:
        server = self._server
        if not server.ready:
            raise ApiError("The model is loading.", "Ask again soon.", status=503, code="loading", retry_after=2)
        request = read_request(self._body())
        server.check_model(request.model)
        tiles = server.chat.tiles(request)
        refused = server.chat.refused(request)
        if refused:
            self._answer(request, iter(refused))
            return
        with server.lane.turn(lambda: has_hung_up(self.connection)):
            self._ask(request, tiles)

    def _ask(self, request: ChatRequest, tiles: tuple[RgbImage, ...]) -> None:
        server = self._server
        with Watch(self.connection, server.stop) as watch:
            parts = server.chat.answer(request, tiles)
            try:
                self._answer(request, parts)
            except ClientGone:
                if watch.gone:
                    raise
                raise closing() from None  # only the server's end stops the engine besides
            finally:
                parts.close()

    # ---- how the answer goes out

    def _answer(self, request: ChatRequest, parts: Iterator[Part]) -> None:
        reply = Reply(request, self._server.fingerprint)
        if not request.stream:
            self._send_json(reply.whole(parts))
            return
        first = next(parts)  # an error until here has a status of its own
        self._begin_stream()
        for chunk in reply.chunks(_chained(first, parts)):
            self._send_event(json.dumps(chunk))
        self._send_event("[DONE]")
        self._end_stream()

    def _begin_stream(self) -> None:
        self._streaming = True
        self._chunked = self.request_version != "HTTP/1.0"
        self.close_connection = self.close_connection or not self._chunked
        self._send_head(200, {"Content-Type": "text/event-stream; charset=utf-8"})

    def _send_head(self, status: int, headers: _Headers) -> None:
        self.send_response(status)
        if self._streaming and self._chunked:
            headers["Transfer-Encoding"] = "chunked"
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in (headers | {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}).items():
            self.send_header(name, value)
        self.end_headers()

    def _send_event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event) if self._chunked else event)

    def _end_stream(self) -> None:
        if self._chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _send_json(self, row: dict[str, Any], status: int = 200, more: _Headers | None = None) -> None:
        data = json.dumps(row).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(data)), **(more or {})}
        self._send_head(status, headers)
        if self.command != "HEAD":
            self.wfile.write(data)

    def _failed(self, error: ApiError) -> None:
        if self._streaming:  # the status has been sent; without [DONE] the answer is not whole
            self._send_event(json.dumps(error.body()))
            self._end_stream()
            self.close_connection = True
            return
        unread = self._unread and self._has_body()
        self.close_connection = self.close_connection or unread
        self._send_error(error)
        if unread:
            self._drain()

    def _has_body(self) -> bool:
        return self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers

    def _send_error(self, error: ApiError) -> None:
        self._streaming = False
        self._send_json(
            error.body(), error.status, {"Retry-After": str(error.retry_after)} if error.retry_after else {}
        )

    def _drain(self) -> None:
        """Closing on unread bytes would reset the connection, and the answer be lost on the way."""
        until, left = time.monotonic() + _DRAIN_S, _DRAIN_BYTES
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(1.0)
        while left > 0 and time.monotonic() < until and (data := self.rfile.read1(1 << 16)):
            left -= len(data)


def _chained(first: Part, parts: Iterable[Part]) -> Iterator[Part]:
    yield first
    yield from parts
