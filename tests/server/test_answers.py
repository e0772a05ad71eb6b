"""What a client gets: OpenAI's library asks the real nano through the server."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from facellm.cli.faces import open_finder
from facellm.core.ask import Question
from facellm.core.package import ModelPackage
from facellm.engine.client import EngineClient
from facellm.engine.protocol import AskRequest, Done, EngineOptions
from facellm.server.serving import Server
from facellm.vision.crop import face_tile, whole_tile
from facellm.vision.decode import load_photo
from tests.server.conftest import about

HAIR = "Describe the face and hair."


@pytest.fixture(scope="module")
def engine(nano: ModelPackage) -> Any:
    with EngineClient(nano, EngineOptions(threads=1, context=4096)) as client:
        client.load()
        yield client


def own_answer(engine: EngineClient, request: AskRequest) -> Done:
    *_, done = engine.ask(request)
    assert isinstance(done, Done)
    return done


def test_the_whole_picture_gives_the_engines_own_answer(
    client: Any, engine: EngineClient, picture: dict[str, Any], astronaut: Path
) -> None:
    got = client.chat.completions.create(model="nano", messages=about(picture, HAIR))
    tile = whole_tile(load_photo(astronaut), 224)
    done = own_answer(engine, AskRequest((tile,), Question(HAIR)))
    assert got.choices[0].message.content == done.answer.text
    assert got.choices[0].finish_reason == "stop"
    assert got.usage.prompt_tokens == done.answer.timings.prompt_tokens
    assert got.usage.completion_tokens == done.answer.timings.tokens
    assert got.usage.total_tokens == got.usage.prompt_tokens + got.usage.completion_tokens
    assert got.model == "nano"
    assert got.id.startswith("chatcmpl-")


def test_a_stream_says_the_same_in_pieces_and_counts_last(client: Any, picture: dict[str, Any]) -> None:
    whole = client.chat.completions.create(model="nano", messages=about(picture, HAIR))
    chunks = list(
        client.chat.completions.create(
            model="nano", messages=about(picture, HAIR), stream=True, stream_options={"include_usage": True}
        )
    )
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(texts) > 5
    assert "".join(texts) == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


def test_without_being_asked_a_stream_counts_nothing(client: Any) -> None:
    chunks = list(client.chat.completions.create(model="nano", messages=about("Say hello."), stream=True, max_tokens=3))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "length"


def test_two_pictures_are_two_to_the_model(client: Any, picture: dict[str, Any]) -> None:
    question = "Who is turned further to the left?"
    one, two = (
        client.chat.completions.create(model="nano", messages=about(*[picture] * count, question)) for count in (1, 2)
    )
    assert two.usage.prompt_tokens - one.usage.prompt_tokens == 49 + 1  # and the line end after it


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_pictures_of_other_kinds(client: Any, astronaut: Path, tmp_path: Path, kind: str) -> None:
    import base64

    with Image.open(astronaut) as photo:
        photo.save(tmp_path / "photo", kind)
    url = f"data:image/{kind.lower()};base64,{base64.b64encode((tmp_path / 'photo').read_bytes()).decode()}"
    part = {"type": "image_url", "image_url": {"url": url, "detail": "low"}}
    got = client.chat.completions.create(model="nano", messages=about(part, "Describe this picture."), max_tokens=4)
    assert got.usage.prompt_tokens > 49


def test_history_and_system_text_reach_the_model(client: Any, engine: EngineClient) -> None:
    from facellm.core.ask import Turn

    system, turn = "Answer in one word.", Turn("Is it day?", "It is.")
    messages = [
        {"role": "system", "content": system},
        {"role": "user", "content": turn.question},
        {"role": "assistant", "content": turn.answer},
        {"role": "user", "content": HAIR},
    ]
    got = client.chat.completions.create(model="nano", messages=messages)
    done = own_answer(engine, AskRequest((), Question(HAIR), (turn,), system=system))
    assert done.prompt.startswith(f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\nIs it day?<|im_end|>")
    assert got.choices[0].message.content == done.answer.text
    assert got.usage.prompt_tokens == done.answer.timings.prompt_tokens


def test_the_largest_face_is_cut_as_the_product_cuts_it(
    client: Any, engine: EngineClient, picture: dict[str, Any], astronaut: Path
) -> None:
    question = Question("What colour is the hair?", ("black", "brown", "blond"))
    extra = {"facellm": {"face": "largest", "choices": list(question.choices)}}
    got = client.chat.completions.create(model="nano", messages=about(picture, question.text), extra_body=extra)
    photo = load_photo(astronaut)
    with open_finder() as finder:
        (face,) = finder.find(photo)
    of_face, of_all = (
        engine.choose((tile,), [question])[0] for tile in (face_tile(photo, face, 224), whole_tile(photo, 224))
    )
    assert [row["p"] for row in got.facellm["choices"]] == [choice.p for choice in of_face.choices]
    assert of_face.choices != of_all.choices


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_ends_before_a_stop_text(client: Any, picture: dict[str, Any], stream: bool) -> None:
    whole = client.chat.completions.create(model="nano", messages=about(picture, HAIR)).choices[0].message.content
    words = whole.split()
    stop = f"{words[3]} {words[4]}"
    got = client.chat.completions.create(model="nano", messages=about(picture, HAIR), stop=[stop, "§"], stream=stream)
    if stream:
        chunks = list(got)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert chunks[-1].choices[0].finish_reason == "stop"
    else:
        text = got.choices[0].message.content
        assert got.choices[0].finish_reason == "stop"
        assert 4 <= got.usage.completion_tokens < len(whole)
    assert text == whole[: whole.index(stop)].rstrip()


def test_a_seed_makes_a_drawn_answer_repeatable(client: Any, picture: dict[str, Any]) -> None:
    texts = [
        client.chat.completions.create(model="nano", messages=about(picture, HAIR), temperature=1.5, seed=seed)
        .choices[0]
        .message.content
        for seed in (1, 1, 2, 3, 4)
    ]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1


def test_choices_have_the_engines_probabilities(
    client: Any, engine: EngineClient, picture: dict[str, Any], astronaut: Path
) -> None:
    question, choices = "What colour is the hair?", ("black", "brown", "blond")
    got = client.chat.completions.create(
        model="nano", messages=about(picture, question), logprobs=True, top_logprobs=3,
        extra_body={"facellm": {"choices": list(choices)}},
    )  # fmt: skip
    tile = whole_tile(load_photo(astronaut), 224)
    (own,) = engine.choose((tile,), [Question(question, choices)])
    assert got.choices[0].message.content == own.text
    assert got.facellm["choices"] == [{"text": choice.text, "p": choice.p} for choice in own.choices]
    (token,) = got.choices[0].logprobs.content
    assert token.token == own.text
    tops = {one.token: math.exp(one.logprob) for one in token.top_logprobs}
    assert tops == pytest.approx({choice.text: choice.p for choice in own.choices})


def test_the_first_token_of_free_text_has_its_likeliest_rivals(client: Any, picture: dict[str, Any]) -> None:
    got = client.chat.completions.create(
        model="nano", messages=about(picture, "Is this person wearing glasses?\nA) yes\nB) no"), max_tokens=1,
        logprobs=True, top_logprobs=5,
    )  # fmt: skip
    (token,) = got.choices[0].logprobs.content
    logprobs = [one.logprob for one in token.top_logprobs]
    assert len(logprobs) == 5
    assert logprobs == sorted(logprobs, reverse=True)
    assert (token.token, token.logprob) == (token.top_logprobs[0].token, token.top_logprobs[0].logprob)
    assert sum(map(math.exp, logprobs)) <= 1
    assert got.choices[0].message.content == token.token


def test_a_schema_is_filled_by_closed_questions(
    client: Any, engine: EngineClient, picture: dict[str, Any], astronaut: Path
) -> None:
    properties = {
        "glasses": {"type": "boolean", "description": "Is this person wearing glasses?"},
        "hair_colour": {"enum": ["black", "brown", "blond"], "description": "What colour is the hair?"},
    }
    schema = {"type": "object", "properties": properties}
    got = client.chat.completions.create(
        model="nano", messages=about(picture, "Fill in."),
        response_format={"type": "json_schema", "json_schema": {"name": "face", "schema": schema}},
    )  # fmt: skip
    glasses, hair = engine.choose(
        (whole_tile(load_photo(astronaut), 224),),
        [
            Question("Is this person wearing glasses?", ("yes", "no")),
            Question("What colour is the hair?", ("black", "brown", "blond")),
        ],
    )
    filled = json.loads(got.choices[0].message.content)
    assert filled == {"glasses": glasses.text == "yes", "hair_colour": hair.text}
    assert [one["p"] for one in got.facellm["fields"]["hair_colour"]] == [choice.p for choice in hair.choices]


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_product_does_not_answer_is_explained(client: Any, picture: dict[str, Any], stream: bool) -> None:
    got = client.chat.completions.create(model="nano", messages=about(picture, "Who is this?"), stream=stream)
    ends = list(got) if stream else [got]
    assert ends[-1].choices[0].finish_reason == "content_filter"
    assert ends[-1].facellm == {"topic": "identity"}
    text = ends[1].choices[0].delta.content if stream else got.choices[0].message.content
    assert text.startswith("FaceLLM does not say who a person is")


def test_a_question_that_the_policy_turns_says_so(client: Any, picture: dict[str, Any]) -> None:
    got = client.chat.completions.create(model="nano", messages=about(picture, "Is she happy?"), max_tokens=8)
    assert got.facellm["asked"] == "Describe the visible expression."
    assert got.facellm["note"]


def test_refused_turns_are_no_context(client: Any) -> None:
    talk = [
        {"role": "user", "content": "Who is this?"},
        {"role": "assistant", "content": "FaceLLM does not say who a person is."},
        *about(HAIR),
    ]
    with_turn = client.chat.completions.create(model="nano", messages=talk)
    without = client.chat.completions.create(model="nano", messages=about(HAIR))
    assert with_turn.usage == without.usage


def test_the_model_is_listed(client: Any, server: Server) -> None:
    (row,) = client.models.list().data
    assert (row.id, row.object, row.owned_by) == ("nano", "model", "facellm")
    assert row.facellm["tile"] == 224
    assert client.models.retrieve("nano").id == "nano"
    assert client.chat.completions.create(model="nano", messages=about("Hi?"), max_tokens=1).system_fingerprint
