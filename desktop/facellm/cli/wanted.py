"""What an ``ask`` command line asks for: photos, questions, faces; or why it cannot be understood."""

from __future__ import annotations

import os.path
import re
from dataclasses import dataclass
from pathlib import Path

import typer

from facellm.conversation.session import QuestionError, check_question
from facellm.core.ask import Question
from facellm.core.command import command
from facellm.core.faces import WHOLE
from facellm.core.prompt import choice_keys


@dataclass(frozen=True, slots=True)
class Wanted:
    """``faces``: for each answer wanted the labels of the pictures it is about; empty: every face found."""

    photos: tuple[Path, ...]
    questions: tuple[Question, ...]
    faces: tuple[tuple[str, ...], ...] = ()

    @property
    def detects(self) -> bool:
        """Whether faces must be looked for at all."""
        return self.faces != ((WHOLE,),)


def read_wanted(arguments: list[str], questions: list[str], face: str, choices: str | None) -> Wanted:
    """Raises ``typer.BadParameter``, which is wrong usage (exit code 2), before anything is loaded or read."""
    photos, questions = _photos_and_questions(arguments, questions)
    options = _choices(choices)
    if any(not question.strip() for question in questions):
        raise typer.BadParameter("A question is empty.")
    wanted = Wanted(
        tuple(Path(photo) for photo in photos),
        tuple(Question(question.strip(), options) for question in questions),
        _faces(face),
    )
    try:
        for labels in wanted.faces or ((WHOLE,),):
            for asked in wanted.questions:
                check_question(asked, labels)
    except QuestionError as error:
        raise typer.BadParameter(f"{error} {error.hint}") from error
    return wanted


def _photos_and_questions(arguments: list[str], questions: list[str]) -> tuple[list[str], list[str]]:
    last = arguments[-1]
    is_file = os.path.exists(last)  # noqa: PTH110 - a question too long for a file's name makes pathlib raise
    if questions:
        if last.rstrip().endswith("?") and not is_file:
            raise typer.BadParameter(
                f'"{last}" looks like a question, but there is one after -q already. Write -q before each question.'
            )
        return arguments, questions
    if len(arguments) == 1:
        missing = "a question" if is_file else "a photo and a question"
        raise typer.BadParameter(f'Give {missing}: {command("ask")} PHOTO "Is this person wearing glasses?"')
    if is_file:
        raise typer.BadParameter(
            f'The last argument, "{last}", is a file and no question. Write -q before the question.'
        )
    return arguments[:-1], [last]


def _choices(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    choices = tuple(choice.strip() for choice in text.split("|" if "|" in text else ","))
    try:
        choice_keys(choices)
    except ValueError as error:
        raise typer.BadParameter(f'--choices "{text}" cannot be used: {error}.') from error
    return choices


def _faces(text: str) -> tuple[tuple[str, ...], ...]:
    if text.strip().lower() in ("", "all"):
        return ()
    wanted = []
    for part in text.split(","):
        labels = tuple(WHOLE if name.strip().lower() == WHOLE else name.strip().upper() for name in part.split("+"))
        if any(label != WHOLE and not re.fullmatch(r"[A-Z]{1,2}", label) for label in labels):
            raise typer.BadParameter(f'--face takes A, "A,B", "A+B" (together), all or whole, not "{text}".')
        wanted.append(labels)
    return tuple(dict.fromkeys(wanted))
