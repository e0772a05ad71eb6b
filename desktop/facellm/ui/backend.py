"""The heavy parts behind the window, imported and made on first use and never in the GUI thread.

One ``FaceFinder`` and one ``EngineClient`` live as long as the window; each photo gets its own ``Session``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from facellm.core.ask import Question
from facellm.core.errors import FaceLLMError
from facellm.core.faces import Face, FaceBox, Photo, RgbImage, next_label
from facellm.core.package import ModelPackage
from facellm.ui.tasks import Emit

if TYPE_CHECKING:
    from PySide6.QtGui import QImage

    from facellm.conversation.session import Session
    from facellm.engine.client import EngineClient
    from facellm.engine.errors import EngineError
    from facellm.engine.protocol import AskEvent, EngineInfo, EngineOptions
    from facellm.models.store import AssetStore
    from facellm.ui.build import Build, BuildNeeded
    from facellm.vision.finder import FaceFinder, FaceModels


#: The side of a tile as long as no model says otherwise.
_TILE = 224


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
    """What presenters need. Everything may take long and is called from worker threads, except ``stop``
    and ``new_build``.
    """

    def load(self, emit: Emit) -> EngineInfo:
        """Find the model and load it; emits ``Loading``.

        Raises ``BuildNeeded``, ``ModelMissing``, ``EngineError``.
        """

    def new_build(self) -> Build:
        """What fetches and builds whatever is missing or damaged. At once; its ``run`` is for a worker's thread."""

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


class LocalBackend:
    """The real parts on this computer.

    ``package`` and ``face_models`` are found in the asset store unless given.
    """

    def __init__(
        self,
        model: str = "nano",
        package: ModelPackage | None = None,
        face_models: FaceModels | None = None,
        options: EngineOptions | None = None,
    ) -> None:
        self._model, self._package, self._face_models, self._options = model, package, face_models, options
        self._lock = threading.Lock()
        # A face that is drawn while the photo gets its session must be in both.
        self._joining = threading.Lock()
        self._client: EngineClient | None = None
        self._finder: FaceFinder | None = None
        self._closed = False

    def load(self, emit: Emit) -> EngineInfo:
        from facellm.engine.errors import EngineError

        with self._lock:
            self._face_files()  # without them no photo can be opened: said now, and not when one is
        try:
            return self._engine().load(emit)
        except EngineError as error:
            raise self._as_damage(error) or error from error

    def new_build(self) -> Build:
        from facellm.ui.build import Build

        return Build()

    def open_file(self, path: Path) -> Opened:
        from facellm.vision.decode import load_photo

        return self._opened(load_photo(path))

    def open_bytes(self, data: bytes, name: str) -> Opened:
        from facellm.vision.decode import photo_from_bytes

        return self._opened(photo_from_bytes(data, name))

    def add_face(self, opened: Opened, box: FaceBox) -> Face:
        with self._joining:
            if opened.session is not None:
                face = opened.session.add(box)
            else:
                measured = self._faces().measure_box(opened.photo, box)
                face = replace(measured, label=next_label(face.label for face in opened.faces))
            opened.faces = (*opened.faces, face)
            return face

    def remove_face(self, opened: Opened, label: str) -> None:
        with self._joining:
            if label not in opened.drawn:
                return
            if opened.session is not None:
                opened.session.remove(label)
            opened.faces = tuple(face for face in opened.faces if face.label != label)

    def tile(self, opened: Opened, label: str) -> RgbImage:
        from facellm.vision.crop import face_tile, whole_tile

        if opened.session is not None:
            return opened.session.tile_of(label)
        face = opened.face(label)
        side = self._package.tile if self._package is not None else _TILE
        return whole_tile(opened.photo, side) if face is None else face_tile(opened.photo, face, side)

    def ask(self, opened: Opened, label: str, question: Question) -> Iterator[AskEvent]:
        yield from self._joined(opened).ask(label, question)

    def stop(self) -> None:
        client = self._client
        if client is not None:
            client.stop()

    def interrupt(self) -> None:
        self._closed = True
        client = self._client
        if client is not None:
            client.close()

    def close(self) -> None:
        self.interrupt()
        if self._finder is not None:
            self._finder.close()
            self._finder = None

    def _opened(self, photo: Photo) -> Opened:
        from facellm.models.packages import ModelMissing
        from facellm.ui.pixels import shown_image

        session: Session | None
        try:
            session, faces = self._session(photo)
        except ModelMissing:
            session, faces = None, self._faces().find(photo)
        return Opened(photo, tuple(faces), shown_image(photo.pixels), session)

    def _joined(self, opened: Opened) -> Session:
        """The photo's session, made now where there was no model before, with the faces that were drawn meanwhile."""
        with self._joining:
            if opened.session is None:
                session, _ = self._session(opened.photo)
                for face in opened.faces[opened.found :]:
                    session.restore(face)
                opened.session = session
            return opened.session

    def _session(self, photo: Photo) -> tuple[Session, list[Face]]:
        from facellm.conversation.session import Session

        client = self._engine()
        assert self._package is not None
        session = Session(client, self._faces(), self._package.tile)
        return session, session.open(photo)

    def _engine(self) -> EngineClient:
        from facellm.engine.client import EngineClient
        from facellm.models.packages import find_package

        with self._lock:
            if self._closed:
                raise FaceLLMError("The window is closing.")
            if self._client is None:
                self._package = self._package or find_package(self._model, self._store())
                self._client = EngineClient(self._package, self._options)
            return self._client

    def _faces(self) -> FaceFinder:
        from facellm.vision.finder import FaceFinder

        with self._lock:
            if self._finder is None:
                self._finder = FaceFinder(self._face_files())
            return self._finder

    def _face_files(self) -> FaceModels:
        """The verified files, looked for once. With the lock held. Raises ``BuildNeeded``."""
        from facellm.models.ensure import FACE_MODELS
        from facellm.models.store import AssetCorrupt, AssetMissing
        from facellm.ui.build import BuildNeeded, ModelDamaged
        from facellm.vision.finder import FaceModels

        if self._face_models is None:
            store, hint = self._store(), "Press Build the embedded model: it fetches them, too."
            try:
                self._face_models = FaceModels(*(store.path(name) for name in FACE_MODELS))
            except AssetMissing as error:
                raise BuildNeeded("The parts that find faces are not on this computer.", hint) from error
            except AssetCorrupt as error:
                raise ModelDamaged("The parts that find faces are damaged.", hint) from error
        return self._face_models

    def _as_damage(self, error: EngineError) -> BuildNeeded | None:
        """The same error where building the embedded model mends it: its files are no good, and ours to replace."""
        from facellm.engine.errors import BadModel, MissingProjector, RuntimeChanged, WrongPair
        from facellm.models.nano.pair import NAME, damaged_files
        from facellm.ui.build import ModelDamaged

        folder = self._store().models / NAME
        if self._package is None or self._package.llm.parent != folder:
            return None
        # Damaged weights compute something else, as another runtime does: their hashes tell which it is.
        damaged = isinstance(error, RuntimeChanged) and damaged_files(folder)
        if damaged:
            return ModelDamaged(f"Damaged: {' and '.join(damaged)}.", "Build the model again.")
        if isinstance(error, BadModel | MissingProjector | WrongPair):
            return ModelDamaged(str(error), "Build the model again.")
        return None

    @staticmethod
    def _store() -> AssetStore:
        from facellm.models.store import AssetStore

        return AssetStore()
