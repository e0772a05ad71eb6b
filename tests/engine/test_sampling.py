"""Drawing tokens, and noticing that a model goes in circles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facellm.engine.sampling import LOOP_PHRASE, Spelling, draw, goes_in_circles, log_softmax


def test_log_probabilities_sum_to_one_even_for_large_logits() -> None:
    logprobs = log_softmax(np.array([1000.0, 999.0, -5000.0], np.float32))
    assert np.exp(logprobs).sum() == pytest.approx(1.0)
    assert logprobs[0] - logprobs[1] == pytest.approx(1.0, abs=1e-4)


def test_at_temperature_zero_the_likeliest_is_drawn() -> None:
    logprobs = log_softmax(np.array([0.1, 3.0, 2.9], np.float32))
    assert {draw(logprobs, 0.0, np.random.default_rng(seed)) for seed in range(20)} == {1}


def test_warm_draws_follow_the_probabilities_of_the_likelier_tokens() -> None:
    p = np.array([0.55, 0.3, 0.12, 0.02, 0.01], np.float32)
    rng = np.random.default_rng(5)
    counts = np.bincount([draw(np.log(p), 1.0, rng) for _ in range(4000)], minlength=5) / 4000
    np.testing.assert_allclose(counts[:3], p[:3] / p[:3].sum(), atol=0.03)
    assert counts[3:].sum() == 0  # below both limits


def test_a_higher_temperature_flattens() -> None:
    logprobs = np.log(np.array([0.7, 0.3], np.float32))
    shares = []
    for temperature in (0.5, 1.0, 4.0):
        rng = np.random.default_rng(1)
        shares.append(np.mean([draw(logprobs, temperature, rng) == 0 for _ in range(2000)]))
    assert shares[0] > shares[1] + 0.05 > shares[2] + 0.1


@given(st.lists(st.integers(0, 5), min_size=1, max_size=LOOP_PHRASE), st.integers(0, 40))
def test_a_phrase_over_and_over_is_noticed(phrase: list[int], before: int) -> None:
    assert goes_in_circles([*range(100, 100 + before), *phrase * 20])


@pytest.mark.parametrize(
    "tokens",
    [[], [1] * 12, list(range(200)), [1, 2, 3] * 4, [*range(30)] * 3, [7] * 19, [*[1, 2] * 30, 3]],
    ids=["empty", "a short run", "no repeat", "few words", "a long phrase thrice", "one less", "a way out"],
)
def test_ordinary_repetition_is_left_alone(tokens: list[int]) -> None:
    assert not goes_in_circles(tokens)


@given(st.text(max_size=40), st.integers(1, 4))
def test_characters_cut_anywhere_come_out_whole(text: str, size: int) -> None:
    data = text.encode("utf-8", "ignore")
    spelling = Spelling()
    pieces = [spelling.add(data[start : start + size]) for start in range(0, len(data), size)]
    assert "".join(pieces) == data.decode().lstrip()
