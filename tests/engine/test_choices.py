"""Closed questions: one of the options, a probability for each, many at once."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from facellm.core.ask import Answer, Question
from facellm.core.faces import RgbImage
from facellm.core.package import ModelPackage
from facellm.core.prompt import choice_keys
from facellm.engine.choices import Ballot
from facellm.engine.client import EngineClient
from facellm.engine.prompts import Prompt
from facellm.engine.protocol import AskRequest, Done, Token
from facellm.models.gguf_header import read_header

#: On x86 the same bits; elsewhere ggml has kernels that round differently for batches of different sizes.
TOLERANCE = 1e-3 if platform.machine().lower() in {"x86_64", "amd64"} else 5e-2

QUESTIONS = [
    Question("Is the person wearing glasses?", ("yes", "no")),
    Question("Is the person smiling?", ("No", "Yes")),
    Question("Which age group?", ("20s", "30s", "40s", "50s", "None of the above")),
    Question("Which hair colour?", ("black", "brown", "blond", "grey")),
    Question("Which headwear?", ("none", "hat")),
]


def ask(client: EngineClient, images: tuple[RgbImage, ...], question: Question) -> Done:
    *_, token, done = list(client.ask(AskRequest(images, question)))
    assert isinstance(token, Token)
    assert isinstance(done, Done)
    assert token.text == done.answer.text
    return done


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.text)
def test_probabilities_are_of_the_choices_and_sum_to_one(
    client: EngineClient, faces: tuple[RgbImage, ...], question: Question
) -> None:
    answer = ask(client, faces[:1], question).answer
    assert tuple(choice.text for choice in answer.choices) == question.choices
    assert math.isclose(sum(choice.p for choice in answer.choices), 1.0, abs_tol=1e-9)
    assert answer.text == max(answer.choices, key=lambda choice: choice.p).text
    assert answer.finish == "end"


@pytest.mark.parametrize("question", [QUESTIONS[0], QUESTIONS[2]], ids=lambda question: question.text)
def test_probabilities_are_those_that_llama_cpp_gives_the_keys(
    client: EngineClient, package: ModelPackage, faces: tuple[RgbImage, ...], native: Callable[..., Any],
    question: Question,
) -> None:  # fmt: skip
    done = ask(client, faces[:1], question)
    prompt = done.prompt.replace("<image>", "<__media__>")
    keys = list(choice_keys(question.choices))
    said = [way for key in keys for way in dict.fromkeys((key, key.capitalize()))]
    each = dict(zip(said, native("key_logprobs", package.llm, package.mmproj, prompt, faces[0], said), strict=True))
    logprobs = np.array([np.logaddexp.reduce([each[way] for way in {key, key.capitalize()}]) for key in keys])
    temperature = float(read_header(package.llm).get("facellm.choice_temperature", 1.0))
    weights = np.exp(logprobs / temperature)
    found = np.array([choice.p for choice in done.answer.choices])
    np.testing.assert_allclose(found, weights / weights.sum(), atol=TOLERANCE)
    assert math.isclose(done.answer.logprobs[0], logprobs[found.argmax()], abs_tol=10 * TOLERANCE)


def test_many_questions_at_once_answer_as_one_by_one(client: EngineClient, faces: tuple[RgbImage, ...]) -> None:
    many = client.choose(faces[:1], QUESTIONS)
    for question, together in zip(QUESTIONS, many, strict=True):
        alone = ask(client, faces[:1], question).answer
        assert together.text == alone.text
        np.testing.assert_allclose(_p(together), _p(alone), atol=TOLERANCE)


def test_more_questions_than_one_decode_holds(client: EngineClient, faces: tuple[RgbImage, ...]) -> None:
    answers = client.choose(faces[:1], QUESTIONS * 6)
    assert len(answers) == len(QUESTIONS) * 6
    for index, answer in enumerate(answers):
        np.testing.assert_allclose(_p(answer), _p(answers[index % len(QUESTIONS)]), atol=TOLERANCE)


def test_closed_questions_encode_a_face_once_and_leave_its_state(
    client: EngineClient, fresh_face: Callable[[], RgbImage]
) -> None:
    face = fresh_face()
    assert client.choose((face,), QUESTIONS[:2])[0].timings.encode_s > 0
    assert client.choose((face,), QUESTIONS)[0].timings.encode_s == 0.0
    followed = ask(client, (face,), QUESTIONS[0]).answer
    assert followed.timings.encode_s == 0.0


def test_no_questions_no_answers(client: EngineClient, faces: tuple[RgbImage, ...]) -> None:
    assert client.choose(faces[:1], []) == []


@pytest.mark.parametrize("choices", [("one",), ("same", "Same"), ("", "x"), tuple(map(str, range(27)))])
def test_impossible_choices_are_refused_before_anything_is_asked(
    client: EngineClient, faces: tuple[RgbImage, ...], choices: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match="choices"):
        list(client.ask(AskRequest(faces[:1], Question("Which?", choices))))
    with pytest.raises(ValueError, match="choices"):
        client.choose(faces[:1], [Question("Which?", choices)])


def test_open_questions_cannot_be_chosen(client: EngineClient, faces: tuple[RgbImage, ...]) -> None:
    with pytest.raises(ValueError, match="choices"):
        client.choose(faces[:1], [Question("Describe the face.")])


def test_keys_of_several_tokens_and_forms_are_scored_as_sequences() -> None:
    """The arithmetic alone, on a vocabulary of four tokens: two forms of the first key, two tokens in one of them."""
    ballot = Ballot(
        Question("Is it?", ("yes", "no")), Prompt((9, 8, 7), 1, "", ""), (((0,), (1, 2)), ((3,),))
    )  # fmt: skip
    assert ballot.tails() == [([8, 7], 1), ([8, 7, 1], 2)]
    first = np.log(np.array([0.2, 0.4, 0.1, 0.3], np.float32))
    after_one = np.log(np.array([0.1, 0.1, 0.5, 0.3], np.float32))
    answer = ballot.answer([[first], [first, after_one]], 1.0, _no_timings())
    yes, no = 0.2 + 0.4 * 0.5, 0.3
    np.testing.assert_allclose(_p(answer), [yes / (yes + no), no / (yes + no)], rtol=1e-5)
    assert math.isclose(answer.logprobs[0], math.log(yes), rel_tol=1e-5)
    sharp = ballot.answer([[first], [first, after_one]], 0.5, _no_timings())
    np.testing.assert_allclose(_p(sharp), [yes**2 / (yes**2 + no**2), no**2 / (yes**2 + no**2)], rtol=1e-5)


def _p(answer: Answer) -> list[float]:
    return [choice.p for choice in answer.choices]


def _no_timings() -> Any:
    from facellm.core.ask import Timings

    return Timings()
