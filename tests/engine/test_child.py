"""The child process: stopped, killed, crashed, left alone, closed."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import facellm
from facellm.core.ask import Question
from facellm.core.faces import RgbImage
from facellm.core.package import ModelPackage
from facellm.engine.client import EngineClient
from facellm.engine.errors import EngineBusy, EngineDied, EngineError
from facellm.engine.protocol import AskEvent, AskRequest, Done, Encoded, EngineOptions, Loading, Token

ESSAY = Question("Write a very long story about the sea, the wind and the people who live there.")
SHORT = AskRequest((), Question("Say hello."), max_tokens=2)
#: 0.3 s are promised; the rest is for machines that do ten other things.
STOP_BOUND_S = 1.5


def essay(images: tuple[RgbImage, ...] = ()) -> AskRequest:
    """An answer that goes on for long: warm, so that it does not go in circles."""
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


# ---- stop


def test_stop_ends_a_running_answer_and_frees_the_processor(client: EngineClient) -> None:
    asking = Asking(client, essay())
    for _ in range(4):
        asking.wait_for(Token)
    done, seconds = stop_and_time(client, asking)
    assert done.answer.finish == "stopped"
    assert done.answer.text
    assert seconds < STOP_BOUND_S
    assert child_is_idle(client)


def test_stop_ends_an_encode_and_frees_the_processor(client: EngineClient, fresh_face: Callable[[], RgbImage]) -> None:
    many = tuple(fresh_face() for _ in range(8))
    asking = Asking(client, essay(many))
    time.sleep(0.1)  # eight encodes take seconds: this is in the midst of them
    done, seconds = stop_and_time(client, asking)
    assert done.answer.finish == "stopped"
    assert seconds < STOP_BOUND_S
    assert child_is_idle(client)
    # What the stopped encode left behind is whole: the next question about the first face is answered.
    *_, done_again = client.ask(AskRequest(many[:1], Question("Is this a face?"), max_tokens=2))
    assert isinstance(done_again, Done)
    assert done_again.answer.finish == "length"


def test_an_encode_after_a_stopped_one_gives_the_same_answer(
    client: EngineClient, fresh_face: Callable[[], RgbImage], faces: tuple[RgbImage, ...]
) -> None:
    face = fresh_face()
    question = Question("Is the person smiling?", ("yes", "no"))
    asking = Asking(client, essay((face, fresh_face())))
    time.sleep(0.1)
    stop_and_time(client, asking)
    after_stop = client.choose((face,), [question])[0]
    client.choose(faces[:1], [question])
    with EngineClient(client.package, client.options) as other:
        assert other.choose((face,), [question])[0].choices == after_stop.choices


def test_stop_ends_the_reading_of_a_long_prompt(client: EngineClient, faces: tuple[RgbImage, ...]) -> None:
    long = Question("Tell me of the sea and of the wind. " * 160)
    list(client.ask(AskRequest(faces[:1], Question("Hello"), max_tokens=1)))
    asking = Asking(client, AskRequest(faces[:1], long, max_tokens=64))
    asking.wait_for(Encoded)
    time.sleep(0.1)
    done, seconds = stop_and_time(client, asking)
    assert done.answer.finish == "stopped"
    assert done.answer.timings.tokens == 0
    assert seconds < STOP_BOUND_S
    assert child_is_idle(client)


def test_stop_ends_closed_questions(client: EngineClient, fresh_face: Callable[[], RgbImage]) -> None:
    threading.Timer(0.2, client.stop).start()
    with pytest.raises(EngineError, match="stopped"):
        client.choose(tuple(fresh_face() for _ in range(8)), [Question("Is this a face?", ("yes", "no"))] * 20)
    hello(client)


def test_stop_while_the_model_is_loading(own_client: EngineClient) -> None:
    asking = Asking(own_client, essay())
    while own_client.pid is None:
        time.sleep(0.01)
    done, seconds = stop_and_time(own_client, asking)
    assert done.answer.finish == "stopped"
    assert seconds < STOP_BOUND_S
    pid = own_client.pid
    hello(own_client)
    assert own_client.pid == pid  # what was loaded meanwhile is used


def test_stop_without_a_question_does_nothing(client: EngineClient, own_client: EngineClient) -> None:
    own_client.stop()
    client.stop()
    hello(client)


def test_a_stop_does_not_reach_the_next_question(client: EngineClient) -> None:
    asking = Asking(client, essay())
    asking.wait_for(Token)
    client.stop()
    client.stop()
    *_, done = client.ask(AskRequest((), Question("Count to nine."), max_tokens=5))
    assert isinstance(done, Done)
    assert done.answer.finish != "stopped"
    asking.rest()


def test_closing_the_answer_early_leaves_the_engine_usable(client: EngineClient) -> None:
    answer = client.ask(essay())
    next(answer)
    answer.close()
    assert child_is_idle(client)
    hello(client)


def test_an_answer_forgotten_by_everyone_ends(client: EngineClient) -> None:
    answer = client.ask(essay())
    next(answer)
    del answer
    hello(client)


# ---- death


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


# ---- turns


def test_questions_from_several_threads_wait_for_each_other(client: EngineClient) -> None:
    asking = [Asking(client, AskRequest((), Question(f"Say {number}."), max_tokens=6)) for number in range(4)]
    for one in asking:
        events = one.rest()
        assert isinstance(events[-1], Done)
        assert all(isinstance(event, Token) for event in events[:-1])


def test_asking_in_the_middle_of_ones_own_answer_is_refused_and_harmless(client: EngineClient) -> None:
    answer = client.ask(AskRequest((), Question("Say hello."), max_tokens=8))
    next(answer)
    with pytest.raises(EngineBusy):
        next(client.ask(SHORT))
    assert isinstance(list(answer)[-1], Done)


def test_an_answer_may_be_begun_and_ended_in_different_threads(client: EngineClient) -> None:
    answer = client.ask(essay())
    next(answer)
    other = threading.Thread(target=answer.close)
    other.start()
    other.join(60)
    hello(client)


# ---- life


def test_nothing_is_started_before_it_is_needed(package: ModelPackage) -> None:
    client = EngineClient(package)
    assert client.pid is None
    assert not client.alive
    client.close()


def test_loading_reports_every_stage_and_what_was_loaded(own_client: EngineClient, package: ModelPackage) -> None:
    seen: list[Loading] = []
    info = own_client.load(seen.append)
    for stage in ("language model", "image encoder"):
        shares = [event.fraction for event in seen if event.stage == stage]
        assert len(shares) > 5
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
    assert info.device == "CPU, 1 thread"
    assert info.context == 2048
    assert info.llm_bytes == package.llm.stat().st_size
    assert info.mmproj_bytes == package.mmproj.stat().st_size
    assert "llama" in info.runtime
    assert own_client.load() is info
    assert own_client.info == info


def test_closing_ends_a_running_answer_and_the_child(own_client: EngineClient) -> None:
    asking = Asking(own_client, essay())
    asking.wait_for(Token)
    pid = own_client.pid
    assert pid is not None
    own_client.close()
    last = asking.rest()[-1]
    assert isinstance(last, Done)
    assert last.answer.finish == "stopped"
    assert gone(pid)
    assert not own_client.alive
    hello(own_client)


def test_options_reach_the_model(package: ModelPackage) -> None:
    with EngineClient(package, EngineOptions(device="cpu", threads=2, context=256)) as client:
        info = client.load()
        assert (info.context, info.threads, info.device) == (256, 2, "CPU, 2 threads")
        *_, done = client.ask(essay())
        assert isinstance(done, Done)
        assert done.answer.timings.tokens + done.answer.timings.prompt_tokens <= 256
        assert done.answer.finish in {"length", "end"}


# ---- no network


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_the_child_never_has_a_socket(own_client: EngineClient, faces: tuple[RgbImage, ...]) -> None:
    links: set[str] = set()
    for _ in own_client.ask(AskRequest(faces[:1], Question("Describe the face."), max_tokens=8)):
        folder = Path(f"/proc/{own_client.pid}/fd")
        links |= {str(link.readlink()) for link in folder.iterdir() if link.is_symlink()}
    assert any(link.startswith("pipe:") for link in links)
    assert not [link for link in links if link.startswith("socket:")]
