"""``facellm ask``: questions about the faces of photos, answered by the model on this computer."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facellm.cli.output import Progress, show_error
from facellm.cli.unexpected import as_error
from facellm.core.command import command
from facellm.core.errors import FaceLLMError

if TYPE_CHECKING:
    from facellm.cli.answers import Writer
    from facellm.cli.loading import ModelLoad
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
    model: Annotated[str, typer.Option(help=f"One of: {command('models', 'list')}.")] = "nano",
    device: Annotated[Device, typer.Option(help="Where the model computes.")] = Device.AUTO,
    max_tokens: Annotated[int, typer.Option(min=1, max=1024, help="The longest answer.")] = 256,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a photo and line on stdout.")] = False,
) -> None:
    """Ask about the faces of photos, for example: ask photo.jpg "Is this person wearing glasses?"

    Questions are independent of each other, so their order changes no answer. Exit code 1 when a photo cannot be read,
    has no face (then try --face whole), not the one asked for, or fails while it is asked about; the other photos are
    answered all the same.
    """
    from facellm.cli.wanted import read_wanted

    wanted = read_wanted(photos, question or [], face, choices)
    with Progress() as progress:
        if not _ask_all(wanted, model, device, max_tokens, json, progress):
            raise typer.Exit(1)


def _ask_all(wanted: Wanted, model: str, device: Device, max_tokens: int, json: bool, progress: Progress) -> bool:
    """Whether every photo was answered. For machines each photo gets its line, whatever happens."""
    from contextlib import ExitStack

    from facellm.cli.answers import JsonWriter, TextWriter
    from facellm.cli.faces import open_finder
    from facellm.conversation.session import Session
    from facellm.engine.client import EngineClient
    from facellm.engine.protocol import EngineOptions
    from facellm.models.packages import find_package
    from facellm.models.store import AssetStore

    writer: Writer = JsonWriter() if json else TextWriter(wanted)
    left, answered = deque(wanted.photos), True
    try:
        with ExitStack() as stack:
            package = find_package(model, AssetStore())
            client = stack.enter_context(EngineClient(package, EngineOptions(device=device.value)))
            # First, because the child needs longest and this process can find faces meanwhile.
            load = stack.enter_context(_begin_load(client, progress)) if _asks_model(wanted) else None
            finder = stack.enter_context(open_finder()) if wanted.detects else None
            session = Session(client, finder, package.tile)
            asking = _Asking(wanted, max_tokens, package, client, load, session, writer, progress)
            while left:
                answered = asking.photo(left[0]) and answered
                left.popleft()
    except BrokenPipeError:  # nobody reads lines any more
        raise
    except Exception as error:
        progress.clear()
        for path in left:
            writer.failed(path, as_error(error))
        raise
    return answered


def _asks_model(wanted: Wanted) -> bool:
    """False when every question is one that the model is not asked."""
    from facellm.core.policy import judge

    return any(not judge(question.text, question.choices).refusal for question in wanted.questions)


def _begin_load(client: EngineClient, progress: Progress) -> ModelLoad:
    from facellm.cli.loading import ModelLoad
    from facellm.engine.protocol import Loading

    progress.loading(Loading("starting", 0.0))
    return ModelLoad(client)


@dataclass(frozen=True, slots=True)
class _Asking:
    """What asking about a photo takes; ``load`` is ``None`` where the model is not needed."""

    wanted: Wanted
    max_tokens: int
    package: ModelPackage
    client: EngineClient
    load: ModelLoad | None
    session: Session
    writer: Writer
    progress: Progress

    def photo(self, path: Path) -> bool:
        """Whether this photo was answered. Raises only what keeps every other photo from being answered, too."""
        try:
            subjects = self._open(path)
        except (FaceLLMError, MemoryError) as error:
            return self._failed(path, error)
        if self.load is not None:
            self.load.wait(self.progress)
        self.progress.clear()
        self.writer.photo(path, self._model_row())
        try:
            for labels in subjects:
                self.writer.face(self.session, labels)
                for question in self.wanted.questions:
                    events = self.session.ask(labels, question, self.max_tokens, follow_up=False)
                    self.writer.answer(question, events)
        except (FaceLLMError, MemoryError) as error:  # if the engine died of this photo, the next one gets another
            return self._failed(path, error)
        self.writer.end("" if subjects else f"No face was found in {path}.")
        return bool(subjects)

    def _open(self, path: Path) -> list[tuple[str, ...]]:
        """What is asked about; raises ``PhotoError``, or ``QuestionError`` for a face that is not there."""
        from facellm.vision.decode import load_photo

        photo = load_photo(path)
        if self.wanted.detects:
            self.progress.doing(f"Looking for faces in {path}")
        self.session.open(photo)
        for label in (label for labels in self.wanted.faces for label in labels):
            self.session.face(label)
        letters = list(_letters(self.session))
        self._say_what_was_found(path, letters)
        return list(self.wanted.faces) or [(label,) for label in letters]

    def _say_what_was_found(self, path: Path, letters: list[str]) -> None:
        for note in self.session.photo.notes:
            self.progress.say(f"{path}: {note}")
        if self.wanted.detects and not letters:
            self.progress.say(f"No face was found in {path}. Ask about the picture as it is with --face whole.")
        elif not self.wanted.faces and len(letters) > 1:
            self.progress.say(
                f"{path} has {len(letters)} faces ({', '.join(letters)}): asking about each. --face A asks about one."
            )

    def _failed(self, path: Path, raised: FaceLLMError | MemoryError) -> bool:
        error = as_error(raised)
        self.progress.clear()
        self.writer.failed(path, error)
        show_error(error, about=str(path))
        return False

    def _model_row(self) -> dict[str, object]:
        info = self.client.info
        return {
            "name": self.package.name,
            "llm": str(self.package.llm),
            "mmproj": str(self.package.mmproj),
            "device": None if info is None else info.device,
        }


def _letters(session: Session) -> Iterator[str]:
    from facellm.core.faces import WHOLE

    return (label for label in session.labels if label != WHOLE)
