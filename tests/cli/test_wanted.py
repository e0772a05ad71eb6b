"""What an ``ask`` command line is understood as, and which ones are refused as wrong usage."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from facellm.cli.wanted import read_wanted
from facellm.core.ask import Question


@pytest.fixture
def photo(tmp_path: Path) -> str:
    path = tmp_path / "photo.jpg"
    path.touch()
    return str(path)


def test_questions_after_q_keep_their_order(photo: str) -> None:
    wanted = read_wanted([photo, "other.png"], ["Glasses?", " Beard? "], "all", None)
    assert wanted.photos == (Path(photo), Path("other.png"))
    assert wanted.questions == (Question("Glasses?"), Question("Beard?"))
    assert wanted.faces == ()
    assert wanted.detects


def test_a_lone_question_may_stand_last(photo: str) -> None:
    wanted = read_wanted([photo, "other.png", "Is this person wearing glasses?"], [], "all", None)
    assert wanted.photos == (Path(photo), Path("other.png"))
    assert wanted.questions == (Question("Is this person wearing glasses?"),)


@pytest.mark.parametrize("question", ["Is this a hat? " * 20, "ü" * 200, "Is this\0a hat?"])
def test_a_question_may_be_longer_than_a_name_of_a_file(photo: str, question: str) -> None:
    assert read_wanted([photo, question], [], "all", None).questions == (Question(question.strip()),)


@pytest.mark.parametrize(
    ("face", "labels"),
    [
        ("all", ()),
        ("ALL", ()),
        ("b", (("B",),)),
        ("A, C", (("A",), ("C",))),
        ("A,A", (("A",),)),
        ("A+C", (("A", "C"),)),
        ("whole", (("whole",),)),
        ("Whole,A", (("whole",), ("A",))),
    ],
)
def test_faces(photo: str, face: str, labels: tuple[tuple[str, ...], ...]) -> None:
    assert read_wanted([photo, "Hat?"], [], face, None).faces == labels


def test_only_the_whole_picture_alone_needs_no_detection(photo: str) -> None:
    assert not read_wanted([photo, "Hat?"], [], "whole", None).detects
    assert read_wanted([photo, "Hat?"], [], "whole,A", None).detects


@pytest.mark.parametrize(
    ("text", "choices"),
    [("yes,no", ("yes", "no")), (" a , b,c", ("a", "b", "c")), ("red, dark|blue", ("red, dark", "blue"))],
)
def test_choices(photo: str, text: str, choices: tuple[str, ...]) -> None:
    assert read_wanted([photo, "Which?"], [], "all", text).questions == (Question("Which?", choices),)


@pytest.mark.parametrize(
    ("arguments", "questions", "face", "choices", "says"),
    [
        (["PHOTO"], [], "all", None, "Give a question"),
        (["Is there a hat?"], [], "all", None, "Give a photo and a question"),
        (["PHOTO", "PHOTO"], [], "all", None, "is a file and no question"),
        (["PHOTO", "Hat?"], ["Beard?"], "all", None, "looks like a question"),
        (["PHOTO"], [" "], "all", None, "question is empty"),
        (["PHOTO"], ["Hat?"], "A1", None, "--face takes"),
        (["PHOTO"], ["Hat?"], "A,", None, "--face takes"),
        (["PHOTO"], ["Hat?"], "all", "yes", "2 to 26 choices"),
        (["PHOTO"], ["Hat?"], "all", "yes,Yes", "different"),
        (["PHOTO"], ["Hat?", "x" * 2001], "all", None, "2001 characters"),
        (["PHOTO"], ["Hat?"], "A+A", None, "1 to 4 different faces"),
        (["PHOTO"], ["Hat?"], "B,A+B+C+D+E", None, "1 to 4 different faces"),
    ],
)
def test_what_cannot_be_understood_says_why(
    photo: str, arguments: list[str], questions: list[str], face: str, choices: str | None, says: str
) -> None:
    with pytest.raises(typer.BadParameter, match=says):
        read_wanted([photo if item == "PHOTO" else item for item in arguments], questions, face, choices)
