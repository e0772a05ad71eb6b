"""Who is let in, and what is refused with which words."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from facellm.core.package import ModelPackage
from facellm.server.handler import MOST_BODY
from facellm.server.serving import ServeError, Server
from facellm.server.stops import Stops
from tests.server.conftest import KEY, about, openai

CHAT = "/v1/chat/completions"
Raw = Callable[..., tuple[int, dict[str, str], Any]]


def body(**more: Any) -> dict[str, Any]:
    return {"model": "nano", "messages": about("Say hello."), "max_tokens": 1} | more


def test_health_needs_no_key_and_says_nothing_else(raw: Raw) -> None:
    status, headers, row = raw("GET", "/health", headers={"Authorization": ""})
    assert (status, row) == (200, {"status": "ok"})
    assert "python" not in headers["Server"].lower()
    assert not [name for name in headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("key", ["", "Bearer ", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x", "Bearer schlüssel"])
@pytest.mark.parametrize("path", ["/v1/models", "/nothing"])
def test_a_wrong_key_is_let_in_nowhere(raw: Raw, key: str, path: str) -> None:
    status, _, row = raw("GET", path, headers={"Authorization": key.encode("latin-1").decode("latin-1")})
    assert status == 401
    assert row["error"]["code"] == "invalid_api_key"
    assert KEY not in json.dumps(row)


def test_openais_library_knows_the_refusals(server: Server, client: Any) -> None:
    with openai.OpenAI(base_url=server.url, api_key="wrong", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError):
            stranger.chat.completions.create(model="nano", messages=about("Say hello."))
    with pytest.raises(openai.NotFoundError, match="there is nano") as error:
        client.chat.completions.create(model="gpt-4o", messages=about("Say hello."))
    assert error.value.code == "model_not_found"
    part = {"type": "image_url", "image_url": {"url": "https://example.org/face.jpg"}}
    with pytest.raises(openai.BadRequestError, match="offline"):
        client.chat.completions.create(model="nano", messages=about(part, "Describe this picture."))


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1", "localhost:1", "127.0.0.1.example.org:{port}", ""])
def test_another_host_is_refused(server: Server, raw: Raw, host: str) -> None:
    status, _, row = raw("GET", "/health", headers={"Host": host.format(port=server.port)})
    assert (status, row["error"]["code"]) == (403, "wrong_host")


def test_localhost_is_a_name_of_it(server: Server, raw: Raw) -> None:
    assert raw("GET", "/health", headers={"Host": f"LocalHost:{server.port}"})[0] == 200


@pytest.mark.parametrize("origin", ["null", "http://127.0.0.1", "https://example.org"])
def test_web_pages_are_refused_with_the_right_key_too(raw: Raw, origin: str) -> None:
    status, headers, row = raw("POST", CHAT, body(), headers={"Origin": origin})
    assert (status, row["error"]["code"]) == (403, "origin_refused")
    assert "Access-Control-Allow-Origin" not in headers
    assert raw("OPTIONS", CHAT, headers={"Origin": origin})[0] == 403


def test_only_loopback_listens(server: Server) -> None:
    import psutil

    listening = [one.laddr for one in psutil.Process().net_connections("inet") if one.status == "LISTEN"]
    assert {one.ip for one in listening if one.port == server.port} == {"127.0.0.1"}


def test_too_large_a_request_is_told_so_while_it_still_sends(server: Server, client: Any) -> None:
    huge = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * MOST_BODY}}
    with pytest.raises(openai.APIStatusError, match="at most") as error:
        client.chat.completions.create(model="nano", messages=about(huge, "Describe this picture."))
    assert error.value.status_code == 413


@pytest.mark.parametrize(
    ("data", "headers", "status"),
    [
        (b"{", {}, 400),
        (b'{"model": NaN}', {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"[]", {}, 400),
        (b'"\xff"', {}, 400),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"", {"Content-Length": "nine"}, 411),
        (b"0\r\n\r\n", {"Transfer-Encoding": "chunked"}, 411),
    ],
)
def test_what_is_no_request(raw: Raw, data: bytes, headers: dict[str, str], status: int) -> None:
    got, _, row = raw("POST", CHAT, data, headers=headers)
    assert got == status
    assert row["error"]["message"].endswith(".")


GIF = "data:image/png;base64," + base64.b64encode(b"GIF89a").decode()
BROKEN = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\nnothing").decode()


def image(url: Any) -> list[dict[str, Any]]:
    return about({"type": "image_url", "image_url": {"url": url}}, "Describe this picture.")


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": [*about("x"), {"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": about(" ")}, "messages"),
        ({"messages": about("x" * 50_000)}, "messages"),
        ({"messages": about("half \ud800")}, "messages[0].content[0]"),
        ({"messages": about({"type": "input_audio"}, "x")}, "messages[0].content[0]"),
        ({"messages": image("file:///etc/passwd")}, "messages[0].content[0]"),
        ({"messages": image("data:image/svg+xml;base64,PHN2Zz4=")}, "messages[0].content[0]"),
        ({"messages": image("data:image/png;base64,***")}, "messages[0].content[0]"),
        ({"messages": image(GIF)}, "messages[0].content[0]"),
        ({"messages": image(BROKEN)}, "messages"),
        ({"messages": image(7)}, "messages[0].content[0]"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"seed": "x"}, "seed"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"top_p": 0.5, "temperature": 1}, "top_p"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"store": True}, "store"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, None),
        ({"made_up": 1}, "made_up"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "string"}}}},
            "response_format",
        ),
        ({"facellm": {"face": "smallest"}}, "facellm.face"),
        ({"facellm": {"choices": ["yes"]}}, "facellm.choices"),
        ({"facellm": {"who": 1}}, "facellm"),
    ],
)
def test_what_cannot_be_honoured_names_its_field(raw: Raw, more: dict[str, Any], param: str | None) -> None:
    status, _, row = raw("POST", CHAT, body(**more))
    if param is None:
        assert status == 200
        return
    assert (status, row["error"]["param"]) == (400, param)
    assert row["error"]["type"] == "invalid_request_error"


def test_what_asks_for_nothing_is_no_obstacle(raw: Raw) -> None:
    harmless = {
        "n": 1, "top_p": 1, "presence_penalty": 0, "tools": [], "tool_choice": "none", "user": "me", "store": False,
        "logit_bias": None, "response_format": {"type": "text"}, "max_completion_tokens": 2, "modalities": ["text"],
    }  # fmt: skip
    status, _, row = raw("POST", CHAT, body(**harmless))
    assert status == 200
    assert row["usage"]["completion_tokens"] == 2


def test_where_no_face_is_there_is_none_to_ask_about(raw: Raw) -> None:
    import io

    from PIL import Image

    grey = io.BytesIO()
    Image.new("RGB", (300, 300), "grey").save(grey, "PNG")
    url = "data:image/png;base64," + base64.b64encode(grey.getvalue()).decode()
    status, _, row = raw("POST", CHAT, body(messages=image(url), facellm={"face": "largest"}))
    assert (status, row["error"]["code"]) == (400, "no_face")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", CHAT, 405), ("POST", "/v1/models", 405), ("DELETE", "/health", 405), ("GET", "/v1/nothing", 404),
     ("GET", "/v1/models/other", 404)],
)  # fmt: skip
def test_other_paths_and_methods(raw: Raw, method: str, path: str, status: int) -> None:
    assert raw(method, path)[0] == status


def test_one_connection_serves_after_errors_too(raw: Raw) -> None:
    assert [raw("POST", CHAT, body(**more))[0] for more in ({}, {"n": 2}, {})] == [200, 400, 200]


def test_what_is_not_http_is_told_so(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"hello there you\r\n\r\n")
        answer = connection.makefile("rb").read()
    assert b"400" in answer.splitlines()[0]
    assert b'"error"' in answer


def test_a_port_that_is_taken_is_an_error(nano: ModelPackage, server: Server) -> None:
    from facellm.cli.faces import open_finder

    with pytest.raises(ServeError, match="in use"):
        Server(nano, KEY, open_finder, port=server.port)


def test_until_the_model_is_loaded_clients_are_told_to_wait(nano: ModelPackage) -> None:
    from http.client import HTTPConnection

    from facellm.cli.faces import open_finder

    with Server(nano, KEY, open_finder) as loading:
        connection = HTTPConnection("127.0.0.1", loading.port, timeout=10)
        connection.request("GET", "/health")
        health = connection.getresponse()
        assert (health.status, json.loads(health.read())) == (503, {"status": "loading"})
        known = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        connection.request("POST", CHAT, json.dumps(body()), known)
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        connection.close()


@pytest.mark.parametrize(
    ("pieces", "stops", "shown"),
    [
        (["Hello", " wor", "ld. ", "End"], ("world",), ["Hello", "", "", ""]),
        (["a", "b", "c"], ("bd",), ["a", "", "bc"]),
        (["one \n", "two", " "], (), ["one", " \ntwo", ""]),
        (["xSTO", "P y"], ("STOP", "OP"), ["x", ""]),
    ],
)
def test_stop_texts_are_seen_across_pieces(pieces: list[str], stops: tuple[str, ...], shown: list[str]) -> None:
    cut = Stops(stops)
    assert [cut.add(piece) for piece in pieces] == shown
    assert cut.rest() == ""
