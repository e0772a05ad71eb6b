"""The heavy parts behind the window, imported and made on first use and never in the GUI thread.

One ``FaceFinder`` lives as long as the window, one ``EngineClient`` as long as its model is the chosen one; each photo
gets its own ``Session``, which moves on to the next model.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from facellm.core.ask import Question
from facellm.core.errors import FaceLLMError
from facellm.core.faces import Face, FaceBox, Photo, RgbImage, next_label
from facellm.core.package import ModelPackage
from facellm.ui.ports import ModelEntry, Opened
from facellm.ui.tasks import Emit

if TYPE_CHECKING:
    from facellm.conversation.session import Session
    from facellm.engine.client import EngineClient
    from facellm.engine.errors import EngineError
    from facellm.engine.protocol import AskEvent, EngineInfo, EngineOptions
    from facellm.models.importing import ImportOrder
    from facellm.models.store import AssetStore
    from facellm.ui.build import Build, BuildNeeded
    from facellm.ui.importing import Import
    from facellm.vision.finder import FaceFinder, FaceModels


#: The side of a tile as long as no model says otherwise.
_TILE = 224


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
        self._model = package.name if package is not None else model
        self._given, self._face_models, self._options = package, face_models, options
        self._finding = threading.Lock()
        # Held for moments only: the GUI thread takes it, too.
        self._choosing = threading.Lock()
        self._parting = threading.Lock()
        # A face that is drawn while the photo gets its session must be in both.
        self._joining = threading.Lock()
        self._package = package
        self._client: EngineClient | None = None
        self._leaving: list[EngineClient] = []
        self._finder: FaceFinder | None = None
        self._closed = False

    @property
    def model(self) -> str:
        return self._model

    def models(self) -> tuple[ModelEntry, ...]:
        from facellm.engine.package_check import stored_bytes

        return tuple(
            ModelEntry(package.name, package.title, stored_bytes(package.llm) + stored_bytes(package.mmproj))
            for package in self._packages()
        )

    def models_folder(self) -> Path:
        from facellm.models.store import StoreUnwritable

        folder = self._store().models
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnwritable(
                f"{folder} cannot be made: {error.strerror or error}.", "Mend the permissions of the folder above."
            ) from error
        return folder

    def taken(self, name: str) -> bool:
        from facellm.core.file_names import as_file_name
        from facellm.models.nano.pair import NAME

        folder = as_file_name(name)
        return bool(folder) and folder.lower() != NAME and (self._store().models / folder).is_dir()

    def use(self, name: str) -> None:
        with self._choosing:
            if self._client is not None:
                self._leaving.append(self._client)
            self._model, self._package, self._client = name, None, None

    def let_go(self) -> None:
        with self._parting:  # who comes second waits until the memory is free
            for client in tuple(self._leaving):
                client.close()

    def load(self, emit: Emit) -> EngineInfo:
        from facellm.engine.errors import EngineError

        left = tuple(self._leaving)
        self.let_go()
        with self._choosing:  # what ran for those before has ended: nothing starts their children again
            self._leaving = [client for client in self._leaving if client not in left]
        with self._finding:
            self._face_files()  # without them no photo can be opened: said now, and not when one is
        try:
            return self._engine().load(emit)
        except EngineError as error:
            raise self._as_damage(error) or error from error

    def new_import(self, order: ImportOrder) -> Import:
        from facellm.ui.importing import Import

        return Import(order)

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

        session = self._moved(opened)
        if session is not None:
            return session.tile_of(label)
        face, package = opened.face(label), self._package
        side = package.tile if package is not None else _TILE
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
        self.let_go()

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
        """The photo's session with the model of now: made where there was no model before, with the faces that were
        drawn meanwhile, or moved on from the model before.
        """
        self._engine()
        session = self._moved(opened)
        if session is not None:
            return session
        with self._joining:
            session, _ = self._session(opened.photo)
            for face in opened.faces[opened.found :]:
                session.restore(face)
            opened.session = session
            return session

    def _moved(self, opened: Opened) -> Session | None:
        """The photo's session, if it has one, over the model of now, if that was looked for already."""
        with self._joining:
            session, client = opened.session, self._client
            if session is not None and client is not None and session.client is not client:
                session = opened.session = session.moved(client, client.package.tile)
            return session

    def _session(self, photo: Photo) -> tuple[Session, list[Face]]:
        from facellm.conversation.session import Session

        client = self._engine()
        session = Session(client, self._faces(), client.package.tile)
        return session, session.open(photo)

    def _engine(self) -> EngineClient:
        from facellm.engine.client import EngineClient

        with self._choosing:
            if self._closed:
                raise FaceLLMError("The window is closing.")
            if self._client is None:
                self._package = self._find()
                self._client = EngineClient(self._package, self._options)
            return self._client

    def _find(self) -> ModelPackage:
        """The chosen model, under the title that it has in the list. Raises ``ModelMissing``."""
        from facellm.models.packages import find_package

        if self._given is not None and self._model == self._given.name:
            return self._given
        package = find_package(self._model, self._store())
        listed = next(
            (each for each in self._packages() if (each.name, each.llm) == (package.name, package.llm)), package
        )
        return replace(package, title=listed.title)

    def _packages(self) -> list[ModelPackage]:
        """All models, those of the same title told apart by their names."""
        from facellm.models.packages import list_packages

        given = [self._given] if self._given is not None else []
        found = [*given, *(each for each in list_packages(self._store()) if each.name not in {g.name for g in given})]
        titles = [package.title for package in found]
        return [
            replace(each, title=f"{each.title} · {each.name}" if titles.count(each.title) > 1 else each.title)
            for each in found
        ]

    def _faces(self) -> FaceFinder:
        from facellm.vision.finder import FaceFinder

        with self._finding:
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

        folder, package = self._store().models / NAME, self._package
        if package is None or package.llm.parent != folder:
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
