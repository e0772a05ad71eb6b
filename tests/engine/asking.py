"""Asking in a thread, stopping, and looking at the child from outside."""

from __future__ import annotations

import queue
import threading
import time

import psutil

from facellm.core.ask import Question
from facellm.core.faces import RgbImage
from facellm.engine.client import EngineClient
from facellm.engine.errors import EngineError
from facellm.engine.protocol import AskEvent, AskRequest, Done

ESSAY = Question("Write a very long story about the sea, the wind and the people who live there.")
SHORT = AskRequest((), Question("Say hello."), max_tokens=2)
#: 0.3 s are promised; the rest is for machines that do ten other things.
STOP_BOUND_S = 1.5


def essay(images: tuple[RgbImage, ...] = ()) -> AskRequest:
    """An answer of some thirty tokens, a second or so; warm, so that it does not go in circles."""
    return AskRequest(images, ESSAY, max_tokens=1500, temperature=1.5, seed=3)


class Asking:
    """A question asked in a thread of its own, as the window does; events arrive in a queue."""

    def __init__(self, client: EngineClient, request: AskRequest) -> None:
        self.events: queue.SimpleQueue[AskEvent | BaseException | None] = queue.SimpleQueue()
        self._client, self._request = client, request
        self._thread = threading.Thread(target=self._run, name="asking")
        self._thread.start()

    def _run(self) -> None:
        try:
            for event in self._client.ask(self._request):
                self.events.put(event)
        except EngineError as error:
            self.events.put(error)
        finally:
            self.events.put(None)

    def wait_for(self, kind: type) -> object:
        """The next event of this kind. Raises what the question raised."""
        while True:
            event = self.events.get(timeout=120)
            if isinstance(event, kind):
                return event
            if isinstance(event, BaseException):
                raise event
            assert event is not None, f"the answer ended without {kind.__name__}"

    def rest(self) -> list[object]:
        self._thread.join(120)
        found: list[object] = []
        while (event := self.events.get(timeout=1)) is not None:
            found.append(event)
        return found


def stop_and_time(client: EngineClient, asking: Asking) -> tuple[Done, float]:
    begun = time.monotonic()
    client.stop()
    done = asking.wait_for(Done)
    seconds = time.monotonic() - begun
    assert isinstance(done, Done)
    asking.rest()
    return done, seconds


def child_is_idle(client: EngineClient) -> bool:
    """No CPU time used over a while, within 3 s from now."""
    assert client.pid is not None
    process = psutil.Process(client.pid)
    for _ in range(10):
        before = sum(process.cpu_times()[:2])
        time.sleep(0.3)
        if sum(process.cpu_times()[:2]) - before <= 0.02:
            return True
    return False


def hello(client: EngineClient) -> None:
    """The engine answers."""
    assert isinstance(list(client.ask(SHORT))[-1], Done)


def gone(pid: int) -> bool:
    """Whether the process ends within 10 s."""
    for _ in range(200):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False
