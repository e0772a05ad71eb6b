"""How questions and choices are put to the model; training depends on every character."""

from __future__ import annotations

import pytest

from facellm.core.prompt import choice_keys, user_text


def test_an_open_question_is_put_as_it_is() -> None:
    assert user_text("  What colour is the hair? \n") == "What colour is the hair?"


def test_choices_stand_on_lettered_lines_in_their_order() -> None:
    text = user_text("Which glasses?", ("no glasses", "eyeglasses", "sunglasses"))
    assert text == "Which glasses?\nA) no glasses\nB) eyeglasses\nC) sunglasses"


def test_yes_and_no_are_their_own_keys_and_are_not_listed() -> None:
    assert choice_keys(("No", " yes ")) == ("no", "yes")
    assert user_text("Is there a hat?", ("yes", "no")) == "Is there a hat?"


def test_yes_no_and_a_third_choice_are_lettered() -> None:
    assert choice_keys(("yes", "no", "cannot tell")) == ("A", "B", "C")


def test_26_choices_reach_z() -> None:
    assert choice_keys(tuple(map(str, range(26))))[-1] == "Z"


@pytest.mark.parametrize(
    "choices", [("one",), tuple(map(str, range(27))), ("a", "A"), ("a", " a"), ("a", ""), ("a b", "a  b")]
)
def test_choices_that_a_letter_could_not_tell_apart_are_refused(choices: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="choices"):
        choice_keys(choices)


def test_a_line_break_in_a_choice_cannot_pass_for_a_further_choice() -> None:
    assert user_text("Which?", ("red\nB) blue", "green")) == "Which?\nA) red B) blue\nB) green"
