"""Whose turn it is, starting and closing, options, and no network."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from facellm.core.ask import Question
from facellm.core.faces import RgbImage
from facellm.core.package import ModelPackage
from facellm.engine.client import EngineClient
from facellm.engine.errors import EngineBusy
from facellm.engine.protocol import AskRequest, Done, EngineOptions, Loading, Token
from tests.engine.asking import SHORT, Asking, child_is_idle, essay, gone, hello
from tests.engine.effort import effort, effort_of_an_essay

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
    whole = effort_of_an_essay(client)
    answer = client.ask(essay())
    next(answer)
    begun = effort(client)
    other = threading.Thread(target=answer.close)
    other.start()
    other.join(60)
    assert not other.is_alive()
    assert child_is_idle(client)
    assert effort(client) - begun < whole / 2
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
