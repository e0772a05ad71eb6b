"""What of a thread the model is told with the next question."""

from __future__ import annotations

import pytest

from facellm.conversation.thread import Exchange, turns
from facellm.core.ask import Answer, Question, Timings, Turn


def exchange(text: str = "Hat?", answer: str = "No.", finish: str = "end", choices: tuple[str, ...] = ()) -> Exchange:
    return Exchange(("A",), Question(text, choices), text, Answer(answer, Timings(), finish))


@pytest.mark.parametrize("finish", ["end", "length", "stopped"])
def test_what_the_user_has_read_is_context(finish: str) -> None:
    assert turns([exchange(finish=finish)]) == (Turn("Hat?", "No."),)


@pytest.mark.parametrize("finish", ["policy", "lost"])
def test_refusals_and_lost_answers_are_not(finish: str) -> None:
    assert turns([exchange(finish=finish)]) == ()


def test_closed_questions_and_empty_answers_are_not() -> None:
    assert turns([exchange(choices=("yes", "no")), exchange(answer=" \n", finish="stopped")]) == ()


def test_the_model_is_told_what_was_asked_of_it_not_what_the_user_wrote() -> None:
    turned = Exchange(
        ("A",), Question("Is she happy?"), "Describe the visible expression.", Answer("Smile.", Timings())
    )
    assert turns([turned]) == (Turn("Describe the visible expression.", "Smile."),)


def test_turns_come_oldest_first() -> None:
    assert [turn.question for turn in turns([exchange("1"), exchange("2"), exchange("3")])] == ["1", "2", "3"]


def test_of_a_long_thread_the_newest_turns_fit_the_budget() -> None:
    thread = [exchange(str(number), "x" * 99) for number in range(10)]
    kept = turns(thread, budget=250)
    assert [turn.question for turn in kept] == ["8", "9"]


def test_one_answer_longer_than_the_budget_is_left_out_whole() -> None:
    assert turns([exchange(answer="x" * 300)], budget=250) == ()
