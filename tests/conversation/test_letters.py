"""Letters on the overlay against the numbers a model knows its pictures by."""

from __future__ import annotations

import pytest

from facellm.conversation.letters import legend, to_images, to_letters
from facellm.core.ask import Answer, ChoiceProbability, Timings


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Who is older, A or C?", "Who is older, Image 1 or Image 2?"),
        ("Is face A smiling more than face C?", "Is Image 1 smiling more than Image 2?"),
        ("A or C?", "Image 1 or Image 2?"),
        ("A, C: which wears a hat?", "Image 1, Image 2: which wears a hat?"),
        ("Does Person C wear glasses?", "Does Image 2 wear glasses?"),
        ("C", "Image 2"),
        ("A beard can be seen in which picture?", "A beard can be seen in which picture?"),
        ("Which shows a beard?", "Which shows a beard?"),
        ("Is B there?", "Is B there?"),
        ("Is ABC written there?", "Is ABC written there?"),
    ],
)
def test_letters_of_the_asked_faces_become_numbers(text: str, meant: str) -> None:
    assert to_images(text, ("A", "C")) == meant


def test_the_word_i_is_not_a_ninth_face() -> None:
    assert to_images("Do I see a smile on face I?", ("H", "I")) == "Do I see a smile on Image 2?"


def test_the_legend_names_every_face() -> None:
    assert legend(("B", "D")) == "Image 1 is face B, Image 2 is face D."


def test_an_answer_comes_back_in_the_words_the_user_wrote() -> None:
    asked, written = ("Image 1", "Image 2", "None of the above"), ("A", "face C", "None of the above")
    choices = tuple(ChoiceProbability(text, p) for text, p in zip(asked, (0.2, 0.7, 0.1), strict=True))
    answer = to_letters(Answer("Image 2", Timings(), choices=choices), asked, written)
    assert answer.text == "face C"
    assert [(choice.text, choice.p) for choice in answer.choices] == list(zip(written, (0.2, 0.7, 0.1), strict=True))


def test_a_free_answer_is_left_alone() -> None:
    answer = Answer("Image 2 shows a smile.", Timings())
    assert to_letters(answer, (), ()) == answer
