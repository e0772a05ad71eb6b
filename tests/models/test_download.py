"""One address into one file, whatever the server and the network do."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from facellm.models import download as module
from facellm.models.download import DownloadError, download
from tests.models.file_server import PAYLOAD, FileServer


def test_goes_on_where_the_connection_broke(tmp_path: Path, server: FileServer) -> None:
    server.cut_after = [300_000, 100_000]
    download(server.url, tmp_path / "part", len(PAYLOAD))
    assert (tmp_path / "part").read_bytes() == PAYLOAD
    assert server.ranges == ["", "bytes=300000-", "bytes=400000-"]


def test_begins_anew_where_the_server_knows_no_ranges(tmp_path: Path, server: FileServer) -> None:
    server.ignores_ranges = True
    (tmp_path / "part").write_bytes(PAYLOAD[:5000])
    download(server.url, tmp_path / "part", len(PAYLOAD))
    assert (tmp_path / "part").read_bytes() == PAYLOAD


def test_a_server_that_fails_for_a_moment_is_asked_again(tmp_path: Path, server: FileServer) -> None:
    server.statuses = [503, 429]
    download(server.url, tmp_path / "part", len(PAYLOAD))
    assert len(server.ranges) == 3


def test_a_refusal_is_final(tmp_path: Path, server: FileServer) -> None:
    server.statuses = [403]
    with pytest.raises(DownloadError, match="403") as caught:
        download(server.url, tmp_path / "part", len(PAYLOAD))
    assert caught.value.status == 403
    assert caught.value.headers is not None
    assert caught.value.headers["Server"]
    assert len(server.ranges) == 1


def test_an_empty_file_is_fetched_as_any_other(tmp_path: Path, server: FileServer) -> None:
    server.payload = b""
    download(server.url, tmp_path / "part", 0)
    assert (tmp_path / "part").read_bytes() == b""


def test_a_log_in_page_is_not_taken_for_a_beginning(tmp_path: Path, server: FileServer) -> None:
    server.payload = b"<html>Please log in</html>"
    with pytest.raises(DownloadError, match="26 bytes"):
        download(server.url, tmp_path / "part", len(PAYLOAD))
    assert not (tmp_path / "part").exists()


def test_gives_up_after_some_attempts_and_keeps_what_came(tmp_path: Path, server: FileServer) -> None:
    server.cut_after = [1000] * 9
    with pytest.raises(DownloadError, match="broke 4 times"):
        download(server.url, tmp_path / "part", len(PAYLOAD))
    assert (tmp_path / "part").stat().st_size == 4000


def test_a_broken_line_is_asked_again_whatever_the_system_calls_it(
    tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [ssl.SSLError("record layer failure"), OSError(errno.ENETUNREACH, "Network is unreachable")]
    read = http.client.HTTPResponse.read

    def fail_first(answer: http.client.HTTPResponse, amount: int | None = None) -> bytes:
        if faults:
            raise faults.pop()
        return read(answer, amount)

    monkeypatch.setattr(http.client.HTTPResponse, "read", fail_first)
    download(server.url, tmp_path / "part", len(PAYLOAD))
    assert (tmp_path / "part").read_bytes() == PAYLOAD
    assert len(server.ranges) == 3


def test_what_the_disk_refuses_is_not_taken_for_the_networks_fault(tmp_path: Path, server: FileServer) -> None:
    with pytest.raises(FileNotFoundError):
        download(server.url, tmp_path / "absent" / "part", len(PAYLOAD))
    assert len(server.ranges) == 1


def test_a_name_lookup_that_hangs_costs_two_seconds_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_arguments: object) -> None:
        time.sleep(5)
        raise OSError("too late to matter")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(DownloadError, match="answer"):
            download("https://files.example.org/thing.bin", tmp_path / "part", 100)
    assert time.monotonic() - began < module.CONNECT_S + 0.5


def test_nobody_listening_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        began = time.monotonic()
        with pytest.raises(DownloadError, match="cannot be reached"):
            download(f"http://127.0.0.1:{taken.getsockname()[1]}/x", tmp_path / "part", 100)
        assert time.monotonic() - began < 1


def test_a_proxy_is_knocked_at_in_place_of_the_host(
    tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url.rsplit("/", 1)[0])
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    download("http://files.example.invalid/thing.bin", tmp_path / "part", len(PAYLOAD))
    assert (tmp_path / "part").read_bytes() == PAYLOAD


def test_the_token_stays_with_the_host_that_it_is_for(
    tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[str, str, str]] = []
    elsewhere = server.url.replace("127.0.0.1", "localhost")
    places = {"/renamed": "/door", "/door": elsewhere}
    serve = server.RequestHandlerClass.do_GET  # type: ignore[attr-defined]

    def do_GET(handler: BaseHTTPRequestHandler) -> None:
        host, token = handler.headers["Host"].partition(":")[0], handler.headers.get("Authorization", "")
        heard.append((host, handler.path, token))
        if handler.path not in places:
            serve(handler)
            return
        handler.send_response(302)
        handler.send_header("Location", places[handler.path])
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    monkeypatch.setattr(server.RequestHandlerClass, "do_GET", do_GET)
    server.cut_after = [300_000]
    download(server.url.replace("/asset.bin", "/renamed"), tmp_path / "part", len(PAYLOAD), token="secret")
    assert (tmp_path / "part").read_bytes() == PAYLOAD
    assert server.ranges == ["", "bytes=300000-"]
    assert heard == 2 * [
        ("127.0.0.1", "/renamed", "Bearer secret"),
        ("127.0.0.1", "/door", "Bearer secret"),
        ("localhost", "/asset.bin", ""),
    ]
