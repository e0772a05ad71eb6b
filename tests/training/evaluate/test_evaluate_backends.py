"""Three kinds of models behind one interface: the same prompt, the same tiles, letters' probabilities and free text."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facellm.core.ask import Question
from facellm.core.faces import RgbImage
from facellm.core.package import ModelPackage
from facellm.engine.client import EngineClient
from facellm.engine.protocol import AskRequest, Done, EngineOptions
from facellm_training.evaluate.backends import GgufBackend, open_backend
from facellm_training.evaluate.items import EvaluationError, Item
from tests.training.evaluate.chat_server import TOKENS, chat_server

PROMPT = "Which colour is it?\nAnswer with a letter.\n(A) red\n(B) green\n(C) blue\n(D) grey"
OPTIONS = EngineOptions(threads=1, context=2048)


def item(name: str = "1", tokens: int = 0, keys: tuple[str, ...] = tuple("ABCD"), *, think: bool = False) -> Item:
    return Item(name, (), PROMPT, keys, ("red", "green", "blue", "grey")[: len(keys)], 1, "colour",
                max_tokens=tokens, think=think)  # fmt: skip


@pytest.fixture(scope="module")
def pictures() -> list[RgbImage]:
    """Two that are not square."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, shape, np.uint8) for shape in ((90, 140, 3), (200, 100, 3))]


@pytest.fixture(scope="module")
def backend(nano: ModelPackage) -> Iterator[GgufBackend]:
    found = GgufBackend(nano, OPTIONS)
    yield found
    found.close()


def test_the_nano_chooses_says_and_concludes(backend: GgufBackend, pictures: list[RgbImage]) -> None:
    plain, said, thought, word = backend.answer(
        pictures, [item(), item(tokens=12), item(tokens=12, think=True), item(keys=("yes", "no"))]
    )
    for reply in (plain, said, thought, word):
        assert reply.logprobs is not None and np.exp(reply.logprobs).sum() == pytest.approx(1, abs=1e-6)
    assert plain.text is None and plain.logprobs == pytest.approx(said.logprobs, abs=1e-4)
    assert said.text and said.text == thought.text
    # after its own reasoning the answer is another one, or at least another probability
    assert thought.logprobs != said.logprobs
    assert backend.settings["tiles"].startswith("whole picture centred in one tile of 224 px")
    assert len(backend.settings["llm_sha256"]) == 64 and "llama.cpp" in backend.settings["runtime"]


def test_a_prompt_that_states_its_options_is_left_as_it_is(nano: ModelPackage) -> None:
    with EngineClient(nano, OPTIONS) as client:
        *_, done = client.ask(AskRequest((), Question(PROMPT, tuple("ABCD"), stated=True)))
    assert isinstance(done, Done)
    assert PROMPT in done.prompt and "A) A" not in done.prompt


def test_a_checkpoint_answers_as_its_gguf_does(pictures: list[RgbImage], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from facellm.models.packages import read_package
    from facellm_converters.convert import Order, convert
    from facellm_training.evaluate.transformers_backend import TransformersBackend
    from tests.converters import checkpoints

    checkpoints.internvl(tmp_path / "checkpoint")
    convert(Order(tmp_path / "checkpoint", tmp_path / "pair", "F32", "F32"), lambda *_: None)
    gguf = GgufBackend(read_package(tmp_path / "pair"), OPTIONS)
    torch = TransformersBackend(tmp_path / "checkpoint", "cpu")
    asked = [item(tokens=6), item(keys=("yes", "no")), item(tokens=6, think=True)]
    try:
        for shown in (pictures[:1], [*pictures, pictures[0]]):  # several pictures are laid out alike, too
            there, here = gguf.answer(shown, asked), torch.answer(shown, asked)
            for one, other in zip(here, there, strict=True):
                assert one.logprobs == pytest.approx(other.logprobs, abs=0.03)  # the KV state is F16 there
                assert one.text == other.text
    finally:
        gguf.close()
    here = torch.answer(pictures[:1], asked)
    assert torch.settings["weights_sha256"] and torch.settings["tiles"] == gguf.settings["tiles"]
    blind = torch.answer([np.zeros((112, 112, 3), np.uint8)], [item()])[0]
    assert blind.logprobs != pytest.approx(here[0].logprobs, abs=1e-3)  # the picture matters
    assert len(torch.answer(pictures, [item(tokens=4, think=True)])[0].logprobs or ()) == 4
    torch.close()


def test_a_folder_of_another_architecture_is_named(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    with pytest.raises(EvaluationError, match="holds a llava checkpoint"):
        open_backend(str(tmp_path))


@pytest.fixture
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test")


@pytest.mark.usefixtures("_key")
def test_a_server_with_logprobs_gives_both(pictures: list[RgbImage]) -> None:
    with chat_server("given") as server:
        backend = open_backend(server.model)
        reply = backend.answer(pictures, [item(tokens=30)])[0]
        backend.close()
        asked = server.requests[0]
    least = min(TOKENS.values())  # D is not among the tokens that were told
    weights = np.array([0.2, 0.5, 0.05, least])
    assert np.exp(reply.logprobs or ()) == pytest.approx(weights / weights.sum())
    assert reply.text == "The answer is (B)."
    seen = [part for part in asked["messages"][0]["content"] if part["type"] == "image_url"]
    sent = Image.open(io.BytesIO(base64.b64decode(seen[1]["image_url"]["url"].partition(",")[2])))
    assert np.array_equal(np.asarray(sent), pictures[1])
    assert asked["max_tokens"] == 30 and asked["temperature"] == 0 and asked["seed"] == 0


@pytest.mark.usefixtures("_key")
@pytest.mark.parametrize("kind", ["ignored", "refused"])
def test_a_server_without_logprobs_gives_free_text_only(kind: str, pictures: list[RgbImage]) -> None:
    with chat_server(kind) as server:
        backend = open_backend(server.model)
        replies = [backend.answer(pictures, [item()])[0] for _ in range(2)]
        backend.close()
        requests = len(server.requests)
    assert all(reply.logprobs is None and reply.text == "The answer is (B)." for reply in replies)
    assert requests == (2 if kind == "ignored" else 4)  # what was refused is not tried with every question


@pytest.mark.usefixtures("_key")
def test_pictures_leave_this_computer_only_with_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EvaluationError, match=r"would be sent to example\.org") as error:
        open_backend("https://example.org/v1#model")
    assert "--yes" in error.value.hint
    open_backend("https://example.org/v1#model", remote_allowed=True).close()
    with pytest.raises(EvaluationError, match="does not name a server and a model"):
        open_backend("http://localhost:1/v1")
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(EvaluationError, match="OPENAI_API_KEY"):
        open_backend("http://localhost:1/v1#model")
