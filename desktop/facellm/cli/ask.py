"""``facellm ask``: questions about the faces of photos, answered by the model on this computer."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facellm.cli.output import Progress, show_error

if TYPE_CHECKING:
    from facellm.cli.answers import Writer
    from facellm.cli.wanted import Wanted
    from facellm.conversation.session import Session
    from facellm.core.package import ModelPackage
    from facellm.engine.client import EngineClient


class Device(StrEnum):
    """Where the model computes."""

    AUTO = "auto"
    CPU = "cpu"
    GPU = "gpu"


def ask(
    photos: Annotated[list[str], typer.Argument(metavar="PHOTO… [QUESTION]", show_default=False)],
    question: Annotated[
        list[str] | None,
        typer.Option("-q", "--question", help="What to ask; several are answered one by one.", show_default=False),
    ] = None,
    face: Annotated[
        str,
        typer.Option(help='A, "A,B" one by one, "A+B" in one question, all, or whole: the picture without detection.'),
    ] = "all",
    choices: Annotated[
        str | None,
        typer.Option(
            help='Answers to choose from, such as "yes,no"; with "|" they may hold commas.', show_default=False
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="One of: facellm models list.")] = "nano",
    device: Annotated[Device, typer.Option(help="Where the model computes.")] = Device.AUTO,
    max_tokens: Annotated[int, typer.Option(min=1, max=1024, help="The longest answer.")] = 256,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a photo and line on stdout.")] = False,
) -> None:
    """Ask about the faces of photos: facellm ask photo.jpg "Is this person wearing glasses?"

    Questions are independent of each other, so their order changes no answer. Exit code 1 when a photo cannot
    be read, has no face (then try --face whole) or not the one asked for; the other photos are answered all the same.
    """
    from facellm.cli.wanted import read_wanted

    wanted = read_wanted(photos, question or [], face, choices)
    with Progress() as progress:
        if not _ask_all(wanted, model, device, max_tokens, json, progress):
            raise typer.Exit(1)


def _ask_all(wanted: Wanted, model: str, device: Device, max_tokens: int, json: bool, progress: Progress) -> bool:
    """Whether every photo was answered."""
    from contextlib import ExitStack

    from facellm.cli.answers import JsonWriter, TextWriter
    from facellm.cli.faces import open_finder
    from facellm.conversation.session import Session
    from facellm.engine.client import EngineClient
    from facellm.engine.protocol import EngineOptions
    from facellm.models.packages import find_package
    from facellm.models.store import AssetStore

    package = find_package(model, AssetStore())
    with ExitStack() as stack:
        client = stack.enter_context(EngineClient(package, EngineOptions(device=device.value)))
        finder = stack.enter_context(open_finder()) if wanted.detects else None
        _load(client, wanted, progress)
        session = Session(client, finder, package.tile)
        writer: Writer = JsonWriter(_model_row(package, client)) if json else TextWriter(wanted)
        answered = [_ask_photo(session, path, wanted, max_tokens, writer, progress) for path in wanted.photos]
    return all(answered)


def _load(client: EngineClient, wanted: Wanted, progress: Progress) -> None:
    """Load the model, unless every question is one that it is not asked."""
    from facellm.core.policy import judge
    from facellm.engine.protocol import Loading

    if any(not judge(question.text, question.choices).refusal for question in wanted.questions):
        progress.loading(Loading("starting", 0.0))
        client.load(progress.loading)
        progress.clear()


def _model_row(package: ModelPackage, client: EngineClient) -> dict[str, object]:
    info = client.info
    return {
        "name": package.name,
        "llm": str(package.llm),
        "mmproj": str(package.mmproj),
        "device": None if info is None else info.device,
    }


def _ask_photo(
    session: Session, path: Path, wanted: Wanted, max_tokens: int, writer: Writer, progress: Progress
) -> bool:
    from facellm.conversation.session import QuestionError
    from facellm.engine.errors import EngineError
    from facellm.vision.decode import PhotoError, load_photo

    try:
        photo = load_photo(path)
        if wanted.detects:
            progress.doing(f"Looking for faces in {path}")
        session.open(photo)
        subjects = _subjects(session, wanted)
    except (PhotoError, QuestionError) as error:
        progress.clear()
        writer.failed(path, error)
        show_error(error, about=str(path))
        return False
    _say_what_was_found(session, path, wanted, progress)
    progress.clear()
    writer.photo(path)
    try:
        for labels in subjects:
            writer.face(session, labels)
            for question in wanted.questions:
                writer.answer(question, session.ask(labels, question, max_tokens, follow_up=False))
    except EngineError as error:
        writer.failed(path, error)
        raise
    writer.end("" if subjects else f"No face was found in {path}.")
    return bool(subjects)


def _subjects(session: Session, wanted: Wanted) -> list[tuple[str, ...]]:
    """What is asked about; raises ``QuestionError`` for a face that is not there."""
    if not wanted.faces:
        return [(label,) for label in _letters(session)]
    for label in (label for labels in wanted.faces for label in labels):
        session.face(label)
    return list(wanted.faces)


def _letters(session: Session) -> Iterator[str]:
    from facellm.core.faces import WHOLE

    return (label for label in session.labels if label != WHOLE)


def _say_what_was_found(session: Session, path: Path, wanted: Wanted, progress: Progress) -> None:
    letters = list(_letters(session))
    for note in session.photo.notes:
        progress.say(f"{path}: {note}")
    if wanted.detects and not letters:
        progress.say(f"No face was found in {path}. Ask about the picture as it is with --face whole.")
    elif not wanted.faces and len(letters) > 1:
        progress.say(
            f"{path} has {len(letters)} faces ({', '.join(letters)}): asking about each. --face A asks about one."
        )
