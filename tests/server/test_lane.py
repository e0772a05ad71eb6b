"""One answer at a time, in order; who hangs up frees the lane; a dead engine costs one answer."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest

from facellm.server.serving import MOST_CONNECTIONS, Server
from tests.server.conftest import LONG, about, hang_up_after_sending, openai


def long_request(stream: bool = False) -> dict[str, Any]:
    """A text of its own each time, or the engine would have read it already."""
    text = f"{time.monotonic_ns()} {LONG}"
    return {"model": "nano", "messages": about(text), "max_tokens": 2, "stream": stream}


def until(condition: Any, seconds: float = 20) -> float:
    """How long it took to become true."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds
        time.sleep(0.01)
    return time.monotonic() - begun


def waiting(server: Server) -> int:
    return len(server.lane._line)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_frees_the_lane(server: Server, client: Any, stream: bool) -> None:
    begun = time.monotonic()
    client.chat.completions.create(**long_request())
    whole = time.monotonic() - begun
    connection = hang_up_after_sending(server, long_request(stream))
    until(lambda: waiting(server) == 1)
    time.sleep(0.1)
    connection.close()
    assert until(lambda: server.lane.empty) < max(1.5, whole / 3)
    client.chat.completions.create(model="nano", messages=about("Say hello."), max_tokens=1)


def test_hanging_up_in_the_queue_leaves_it(server: Server, client: Any) -> None:
    first = hang_up_after_sending(server, long_request())
    until(lambda: waiting(server) == 1)
    second = hang_up_after_sending(server, long_request())
    until(lambda: waiting(server) == 2)
    second.close()
    until(lambda: waiting(server) == 1)
    first.close()
    until(lambda: server.lane.empty)
    assert client.chat.completions.create(model="nano", messages=about("Say hello."), max_tokens=1).choices


def test_others_wait_in_order_and_too_many_are_sent_away(server: Server, client: Any) -> None:
    running = hang_up_after_sending(server, long_request())
    until(lambda: waiting(server) == 1)
    ended: list[int] = []

    def ask(number: int) -> None:
        client.chat.completions.create(model="nano", messages=about("Say hello."), max_tokens=1)
        ended.append(number)

    with ThreadPoolExecutor(2) as pool:
        asked = []
        for number in (1, 2):
            asked.append(pool.submit(ask, number))
            until(lambda: waiting(server) == number + 1)  # noqa: B023 - waited for in this turn
        with pytest.raises(openai.RateLimitError, match="wait already") as error:
            client.chat.completions.create(model="nano", messages=about("Say hello."))
        assert int(error.value.response.headers["Retry-After"]) >= 1
        assert not ended
        running.close()
        for one in asked:
            one.result(60)
    assert ended == [1, 2]


@pytest.mark.keeps_threads
@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
@pytest.mark.parametrize("stream", [False, True])
def test_a_killed_engine_costs_one_answer(server: Server, client: Any, stream: bool) -> None:
    def kill() -> None:
        until(lambda: waiting(server) == 1)
        time.sleep(0.2)
        os.kill(server.engine_pid or 0, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(openai.InternalServerError, match="stopped working"):
        list(client.chat.completions.create(**long_request(stream)))
    killer.join()
    until(lambda: server.lane.empty)
    got = client.chat.completions.create(model="nano", messages=about("Say hello."), max_tokens=1)
    assert got.usage.completion_tokens == 1
    assert psutil.pid_exists(server.engine_pid or 0)


@pytest.mark.keeps_threads
@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
def test_an_engine_that_dies_in_the_middle_of_a_stream_is_told_in_it(server: Server, client: Any) -> None:
    stream = client.chat.completions.create(model="nano", messages=about("Describe the face and hair."), stream=True)
    told = [next(stream), next(stream)]
    os.kill(server.engine_pid or 0, signal.SIGKILL)
    with pytest.raises(openai.APIError, match="stopped working"):
        told.extend(stream)
    assert told[-1].choices[0].finish_reason is None
    got = client.chat.completions.create(model="nano", messages=about("Say hello."), max_tokens=1)
    assert got.usage.completion_tokens == 1


def test_idle_connections_are_not_without_number(server: Server, client: Any) -> None:
    idle = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(MOST_CONNECTIONS)]
    until(lambda: len(server._http._open) == MOST_CONNECTIONS)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as one_more:
        assert one_more.recv(1) == b""
    for connection in idle:
        connection.close()
    until(lambda: len(server._http._open) == 0)
    assert client.models.list().data


def test_an_answer_that_nobody_takes_does_not_hold_the_lane(server: Server, client: Any) -> None:
    """Hung up without a word, as a killed client does: the connection is reset."""
    connection = hang_up_after_sending(server, long_request(stream=True))
    until(lambda: waiting(server) == 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    connection.close()
    assert until(lambda: server.lane.empty) < 3
