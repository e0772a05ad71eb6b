"""An evaluated server: what it refuses, rewords or does not list, how it dies, and what its probabilities mean."""

from __future__ import annotations

import math
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from facellm.core.package import ModelPackage
from facellm.engine.protocol import EngineOptions
from facellm.models.gguf_header import read_header
from facellm.server.serving import Server
from facellm_training.evaluate import openai_backend
from facellm_training.evaluate.asking import ask_models
from facellm_training.evaluate.backends import GgufBackend, open_backend
from facellm_training.evaluate.items import EvaluationError, Item, ItemRefused
from facellm_training.evaluate.openai_backend import key_logprobs
from facellm_training.evaluate.run import Run
from tests.training.evaluate.chat_server import ChatServer, chat_server

PIXELS = np.random.default_rng(0).integers(0, 255, (90, 140, 3), np.uint8)
PROMPT = "Which colour is it?\nA) red\nB) green\nC) blue"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.setattr(openai_backend, "_RETRIES", 1)


def item(name: str = "1", prompt: str = PROMPT) -> Item:
    return Item(name, (PIXELS,), prompt, tuple("ABC"), ("red", "green", "blue"), 1, "colour")


def test_a_key_that_is_not_listed_never_wins() -> None:
    # B is the least of what is listed, A and C are not: they are less probable still
    logs = key_logprobs({"The": math.log(0.9), "B": math.log(0.02)}, ("A", "B", "C"))
    assert logs is not None and int(np.argmax(logs)) == 1 and np.exp(logs).sum() == pytest.approx(1)
    # what the listed leave, 0.02, is shared by A and C
    logs = key_logprobs({"The": math.log(0.08), "B": math.log(0.9)}, ("A", "B", "C"))
    assert logs is not None and np.exp(logs) == pytest.approx(np.array([0.01, 0.9, 0.01]) / 0.92)
    assert key_logprobs({"The": -0.1}, ("A", "B")) is None


def test_a_model_that_the_server_lacks_is_named_before_anything_is_asked() -> None:
    with chat_server("given") as server:
        server.models = [{"id": name, "object": "model", "created": 0, "owned_by": "x"} for name in ("b", "a")]
        backend = open_backend(server.model)
        with pytest.raises(EvaluationError, match="has no model drawn-model") as error:
            _ = backend.settings
        backend.close()
        assert error.value.hint == "It has: a, b." and not server.requests


def test_what_a_server_says_of_its_model_is_on_record() -> None:
    row = {"id": "drawn-model", "object": "model", "created": 0, "owned_by": "x", "facellm": {"runtime": "llama.cpp 1"}}
    with chat_server("given") as server:
        server.models = [row]
        backend = open_backend(server.model)
        assert backend.settings["says"] == {"runtime": "llama.cpp 1"}
        backend.close()


def test_the_newer_name_of_the_limit_is_found_out_once() -> None:
    with chat_server("given") as server:
        server.newer = True
        backend = open_backend(server.model)
        assert [backend.answer([PIXELS], [item()])[0].text for _ in range(2)] == ["The answer is (B)."] * 2
        backend.close()
        assert len(server.requests) == 3 and server.requests[2]["max_completion_tokens"] == 16


def test_a_question_that_was_reworded_is_no_answer_to_ours() -> None:
    with chat_server("given") as server:
        backend = open_backend(server.model)
        server.more = {"facellm": {"note": "…", "topic": "feeling", "asked": "Describe the visible expression."}}
        with pytest.raises(ItemRefused, match=r"another question in its place \(feeling\)"):
            backend.answer([PIXELS], [item()])
        server.more = {"facellm": {"note": "…", "topic": "age", "asked": PROMPT}}
        assert backend.answer([PIXELS], [item()])[0].text
        backend.close()


def test_a_proxy_of_the_environment_does_not_get_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_server("given") as server, chat_server("given") as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_address[1]}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        backend = open_backend(server.model)
        backend.answer([PIXELS], [item()])
        backend.close()
        assert len(server.requests) == 1 and not proxy.requests


def test_a_server_that_dies_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    items = [item(str(number), f"{number}?") for number in range(5)]

    def ask(server: ChatServer) -> int:
        run = Run([f"m={server.model}"], tmp_path, lambda *_: None)
        return len(ask_models(items, run.opened(), tmp_path, lambda *_: None, {}).models[0].replies)

    with chat_server("given") as server:
        server.dies_after = 3
        with pytest.raises(EvaluationError, match="did not answer") as error:
            ask(server)
        assert "goes on where it was" in error.value.hint and len(server.requests) == 3
        server.dies_after = 10**9
        assert ask(server) == 5 and len(server.requests) == 5


def test_a_name_that_means_nothing_is_said_before_the_first_model_is_asked(nano: ModelPackage, tmp_path: Path) -> None:
    run = Run([f"a={nano.llm.parent}", "b=http://localhost:1/v1"], tmp_path, lambda *_: None)
    with pytest.raises(EvaluationError, match="does not name a server and a model"):
        run.opened()
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    with pytest.raises(EvaluationError, match="holds a llava checkpoint"):
        Run([f"a={nano.llm.parent}", f"b={tmp_path}"], tmp_path, lambda *_: None).opened()


def test_the_products_server_answers_as_its_engine_does(nano: ModelPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACELLM_RESEARCH_ETHNICITY", raising=False)
    options = EngineOptions(threads=1, context=2048)
    here = GgufBackend(nano, options)
    direct = here.answer([PIXELS], [item()])[0]
    temperature = here.settings["choice_temperature"]
    here.close()
    assert temperature == pytest.approx(read_header(nano.llm)["facellm.choice_temperature"]) and temperature != 1

    def no_finder() -> None:
        raise AssertionError("nobody asked for a face")

    with Server(nano, "test", no_finder, options=options) as server:  # type: ignore[arg-type]
        loading = Thread(target=server.load)
        loading.start()
        loading.join()
        there = open_backend(f"{server.url}#{nano.name}")
        assert there.settings["says"]["tile"] == nano.tile and "llama.cpp" in there.settings["says"]["runtime"]
        served = there.answer([PIXELS], [item()])[0]
        for asked, topic in (
            ("Which race is this person?\nA) Black\nB) White\nC) Indian", "ethnicity"),
            ("Recognise the emotional state of the person.\nA) Sad\nB) Happy\nC) Fear", "feeling"),
        ):
            with pytest.raises(ItemRefused, match=topic):
                there.answer([PIXELS], [item("2", asked)])
        there.close()
    # the engine divides by the temperature that the file holds, a server tells what the model says
    raw = np.array(served.logprobs) / temperature
    assert np.exp(raw) / np.exp(raw).sum() == pytest.approx(np.exp(direct.logprobs or ()), abs=1e-3)
