"""What the presenters need of the parts behind the window, and what they get from there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from facellm.core.ask import Question
from facellm.core.faces import Face, FaceBox, Photo, RgbImage
from facellm.ui.tasks import Emit

if TYPE_CHECKING:
    from PySide6.QtGui import QImage

    from facellm.conversation.session import Session
    from facellm.engine.protocol import AskEvent, EngineInfo
    from facellm.models.importing import ImportOrder
    from facellm.ui.build import Build
    from facellm.ui.importing import Import


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model on this computer, as a list shows it. ``title`` is no other's; ``bytes`` of all its files."""

    name: str
    title: str
    bytes: int


@dataclass(slots=True, eq=False)
class Opened:
    """A photo with its faces, those drawn by hand last. ``session`` is ``None`` as long as there is no model to ask.

    ``shown``: what the window draws, scaled and converted here because a large photo takes 0.2 s.
    """

    photo: Photo
    faces: tuple[Face, ...]
    shown: QImage
    session: Session | None = field(default=None, repr=False)
    found: int = field(init=False)

    def __post_init__(self) -> None:
        self.found = len(self.faces)

    @property
    def drawn(self) -> frozenset[str]:
        """Letters of the faces that were drawn by hand: those that can be taken back."""
        return frozenset(face.label for face in self.faces[self.found :])

    def face(self, label: str) -> Face | None:
        """The face with this letter; ``None`` for the whole picture."""
        return next((face for face in self.faces if face.label == label), None)


class Backend(Protocol):
    """What presenters need. Everything may take long and is called from worker threads, except ``stop``, ``use``,
    ``taken``, ``models_folder``, ``new_build`` and ``new_import``.
    """

    @property
    def model(self) -> str:
        """The name of the model that answers, or will."""

    def models(self) -> tuple[ModelEntry, ...]:
        """The models on this computer, the embedded one first."""

    def models_folder(self) -> Path:
        """Where the user's models lie, made where it is not there. At once. Raises ``StoreUnwritable``."""

    def taken(self, name: str) -> bool:
        """Whether the models folder has something that an import of this name could replace, whole or not. At once."""

    def use(self, name: str) -> None:
        """From the next ``load`` on, this model answers. At once; the open photo and what was asked move along."""

    def let_go(self) -> None:
        """End the child processes of models that were chosen before, whatever they do; ``load`` does so, too."""

    def load(self, emit: Emit) -> EngineInfo:
        """Find the model and load it; emits ``Loading``.

        Raises ``BuildNeeded``, ``ModelMissing``, ``EngineError``.
        """

    def new_build(self) -> Build:
        """What fetches and builds whatever is missing or damaged. At once; its ``run`` is for a worker's thread."""

    def new_import(self, order: ImportOrder) -> Import:
        """What brings a model in. At once; its ``run`` is for a worker's thread."""

    def open_file(self, path: Path) -> Opened:
        """Decode and find faces. Raises ``PhotoError``, and ``BuildNeeded`` without the parts that find faces."""

    def open_bytes(self, data: bytes, name: str) -> Opened:
        """The same for an encoded picture in memory."""

    def add_face(self, opened: Opened, box: FaceBox) -> Face:
        """The face in a box drawn by hand, added to ``opened`` with the next letter. Raises ``BoxError``."""

    def remove_face(self, opened: Opened, label: str) -> None:
        """Take back a face that was drawn by hand. Another or none of that letter: nothing happens."""

    def tile(self, opened: Opened, label: str) -> RgbImage:
        """What the model receives for this face or the whole picture, uint8 RGB ``[tile, tile, 3]``."""

    def ask(self, opened: Opened, label: str, question: Question) -> Iterator[AskEvent]:
        """Load where needed, then stream the answer. Raises ``EngineError``."""

    def stop(self) -> None:
        """End the running answer; at once, from any thread."""

    def interrupt(self) -> None:
        """The window closes: end the child process, so that waiting threads come back."""

    def close(self) -> None:
        """Let go of the face finder; nothing runs any more."""
