"""The child is killed, crashes, hangs, or loses its parent."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import facellm
from facellm.core.package import ModelPackage
from facellm.engine.client import EngineClient
from facellm.engine.errors import EngineDied, EngineError
from facellm.engine.process import child_command
from facellm.engine.protocol import Token
from tests.engine.asking import STOP_BOUND_S, Asking, essay, gone, hello, stop_and_time


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
@pytest.mark.parametrize("number", [9, 11, 6], ids=["SIGKILL", "SIGSEGV", "SIGABRT"])
def test_a_child_that_dies_says_why_and_the_next_question_starts_another(own_client: EngineClient, number: int) -> None:
    answer = own_client.ask(essay())
    next(answer)
    first = own_client.pid
    assert first is not None
    os.kill(first, number)
    with pytest.raises(EngineDied, match=signal.Signals(number).name) as caught:
        list(answer)
    assert caught.value.hint
    assert not own_client.alive
    hello(own_client)
    assert own_client.pid != first


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_a_crash_brings_its_last_words(own_client: EngineClient) -> None:
    answer = own_client.ask(essay())
    next(answer)
    assert own_client.pid is not None
    os.kill(own_client.pid, 11)
    with pytest.raises(EngineDied, match=r"Segmentation fault.*engine.*line \d+"):
        list(answer)


def test_a_child_that_died_unnoticed_is_replaced(own_client: EngineClient) -> None:
    hello(own_client)
    assert own_client.pid is not None
    first = psutil.Process(own_client.pid)
    first.kill()
    assert gone(first.pid)
    # For a moment the thread that reads from the child is itself reaping it, and nobody else can know of its end.
    deadline = time.monotonic() + 10
    while own_client.alive and time.monotonic() < deadline:
        time.sleep(0.01)
    hello(own_client)
    assert own_client.pid != first.pid


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_a_child_that_hangs_does_not_hang_the_caller(own_client: EngineClient) -> None:
    hello(own_client)
    assert own_client.pid is not None
    first = psutil.Process(own_client.pid)
    asking = Asking(own_client, essay())
    asking.wait_for(Token)
    first.suspend()
    done, seconds = stop_and_time(own_client, asking)
    assert done.answer.finish == "stopped"
    assert seconds < STOP_BOUND_S
    hello(own_client)  # by a fresh child
    assert own_client.pid != first.pid
    assert gone(first.pid)


#: The real child, of a version in which a message has got another name.
NEWER = """
import facellm.engine.protocol as protocol
protocol.Renamed, protocol.Loading.__qualname__ = protocol.Loading, "Renamed"
from facellm.engine.worker import main
main()
"""


def test_a_child_of_another_version_is_an_error_and_not_a_wait_without_end(
    own_client: EngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(Path(facellm.__file__).parents[1])
    with monkeypatch.context() as changed:
        changed.setenv("PYTHONPATH", path)
        changed.setattr("facellm.engine.process.child_command", lambda: [sys.executable, "-c", NEWER])
        with pytest.raises(EngineDied, match=r"another version.*Renamed") as caught:
            own_client.load()
    assert "start it again" in caught.value.hint
    hello(own_client)


def test_the_child_ends_when_it_is_told_what_it_cannot_read() -> None:
    with subprocess.Popen(
        child_command(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stderr is not None
        body = b"cfacellm.engine.protocol\nRenamed\n."
        child.stdin.write(struct.pack("<Q", len(body)) + body)
        child.stdin.flush()
        assert child.wait(60) == 1
        assert b"cannot be read" in child.stderr.read()


def test_a_process_that_cannot_be_started_is_an_error(
    own_client: EngineClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as changed:
        changed.setattr("facellm.engine.process.child_command", lambda: [str(tmp_path / "absent")])
        with pytest.raises(EngineError, match="cannot be started: No such file") as caught:
            own_client.load()
    assert caught.value.hint
    hello(own_client)


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's limits")
def test_a_crash_leaves_no_photo_behind(own_client: EngineClient) -> None:
    own_client.load()
    limits = Path(f"/proc/{own_client.pid}/limits").read_text(encoding="ascii")
    assert re.search(r"Max core file size +0 +0 ", limits)
    look = (
        "import ctypes; from facellm.engine import worker; worker._keep_no_dumps(); print(ctypes.CDLL(None).prctl(3))"
    )
    path = str(Path(facellm.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", look], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "0"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_a_question_that_waits_for_a_hanging_child_can_itself_be_stopped(own_client: EngineClient) -> None:
    hello(own_client)
    assert own_client.pid is not None
    child = psutil.Process(own_client.pid)
    first = Asking(own_client, essay())
    first.wait_for(Token)
    child.suspend()
    stop_and_time(own_client, first)
    second = Asking(own_client, essay())
    time.sleep(0.3)
    done, seconds = stop_and_time(own_client, second)
    assert done.answer.finish == "stopped"
    assert seconds < STOP_BOUND_S
    child.resume()
    hello(own_client)
    assert own_client.pid == child.pid  # it came back in time, with the model that it had loaded


PARENT = """
import sys, time
from pathlib import Path
from facellm.core.ask import Question
from facellm.core.package import ModelPackage
from facellm.engine.client import EngineClient
from facellm.engine.protocol import AskRequest, EngineOptions
client = EngineClient(ModelPackage("m", Path(sys.argv[1]), Path(sys.argv[2]), 224), EngineOptions(threads=1))
assert "llama_cpp" not in sys.modules
request = AskRequest((), Question("Write a long story."), max_tokens=1500, temperature=1.5)
for count, _ in enumerate(client.ask(request)):
    if count == 2:
        print(client.pid, "llama_cpp" in sys.modules, flush=True)
        if len(sys.argv) > 3:
            sys.exit(3)
"""


@pytest.fixture
def parent(package: ModelPackage) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """An application of its own that asks for a long answer and prints its child's pid."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PARENT, str(package.llm), str(package.mmproj), *arguments]
        path = str(Path(facellm.__file__).parents[1])
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path})
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_child_ends_when_its_parent_is_killed_while_it_is_busy(
    parent: Callable[..., subprocess.Popen[str]],
) -> None:
    process = parent()
    assert process.stdout is not None
    child = int(process.stdout.readline().split()[0])
    assert psutil.pid_exists(child)
    process.kill()
    process.wait()
    assert gone(child)


def test_the_child_ends_when_its_parent_exits_without_closing_and_never_was_llama_in_the_parent(
    parent: Callable[..., subprocess.Popen[str]],
) -> None:
    process = parent("exit")
    assert process.stdout is not None
    child, imported = process.stdout.readline().split()
    assert imported == "False"
    assert process.wait(60) == 3
    assert gone(int(child))
