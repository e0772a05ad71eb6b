"""The photo as the window sees it: none, opening, open; its faces and which one is chosen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from PySide6.QtCore import QObject, Signal

from facellm.core.errors import FaceLLMError
from facellm.core.faces import WHOLE, Face, FaceBox, RgbImage

if TYPE_CHECKING:
    from facellm.ui.ports import Backend, Opened
    from facellm.ui.tasks import Job, Runner


class PhotoPresenter(QObject):
    """Opens photos off the GUI thread; when several are asked for quickly, the newest wins."""

    opened_changed = Signal()
    opening_changed = Signal()
    faces_changed = Signal()
    chosen_changed = Signal()
    tile_changed = Signal()
    removed = Signal(str)
    failed = Signal(str, str)

    def __init__(self, backend: Backend, pool: Runner) -> None:
        super().__init__()
        self._backend, self._pool = backend, pool
        self._newest = 0
        self._refused: tuple[str, Job] | None = None
        self.opened: Opened | None = None
        self.opening = ""
        self.chosen: str | None = None
        self.tile: RgbImage | None = None

    @property
    def face(self) -> Face | None:
        """The chosen face; ``None`` for the whole picture or nothing."""
        return self.opened.face(self.chosen or "") if self.opened is not None else None

    @property
    def labels(self) -> tuple[str, ...]:
        """What can be chosen, in reading order: the faces' letters, then the whole picture."""
        if self.opened is None:
            return ()
        return (*(face.label for face in self.opened.faces), WHOLE)

    def open_file(self, path: Path) -> None:
        """Show this photo when it is decoded and its faces are found."""
        self._open(path.name, lambda _: self._backend.open_file(path))

    def open_encoded(self, encode: Callable[[], bytes], name: str) -> None:
        """The same for a picture in memory; ``encode`` gives it as a file's bytes, in the worker's thread."""
        self._open(name, lambda _: self._backend.open_bytes(encode(), name))

    def retry(self) -> None:
        """Open what could not be opened for want of the parts that find faces: they are there now."""
        if self._refused is not None:
            self._open(*self._refused)

    def choose(self, label: str) -> None:
        """Talk about this face, or about the whole picture. Unknown labels are ignored."""
        if label in self.labels and label != self.chosen:
            self._choose(label)

    def choose_key(self, key: str) -> bool:
        """A key pressed: a face's letter, else W or 0 for the whole picture; false where it is neither."""
        key = key.upper()
        label = key if key in self.labels else WHOLE if key in ("W", "0") else ""
        self.choose(label)
        return bool(label)

    def choose_next(self, step: int) -> None:
        """The next (+1) or previous (-1) of ``labels``, around the end."""
        labels = self.labels
        if not labels:
            return
        here = labels.index(self.chosen) if self.chosen in labels else (-1 if step > 0 else 0)
        self.choose(labels[(here + step) % len(labels)])

    def draw(self, box: FaceBox) -> None:
        """Make a face of this box, drawn by hand in photo pixels, and choose it when it is measured."""
        opened = self.opened
        if opened is None:
            return
        self._pool.run(
            lambda _: self._backend.add_face(opened, box),
            lambda face: self._face_added(opened, cast("Face", face)),
            lambda error: self.failed.emit(str(error), error.hint),
        )

    def remove(self, label: str) -> bool:
        """Take back a face that was drawn by hand; false where it is none. The others keep their letters."""
        opened = self.opened
        if opened is None or label not in opened.drawn:
            return False
        self._pool.run(
            lambda _: self._backend.remove_face(opened, label),
            lambda _: self._face_removed(opened, label),
            lambda error: self.failed.emit(str(error), error.hint),
        )
        return True

    def _open(self, name: str, job: Job) -> None:
        self._newest += 1
        self._refused = None
        number = self._newest
        self.opening = name
        self.opening_changed.emit()
        self._pool.run(
            job,
            lambda result: self._opened(number, cast("Opened", result)),
            lambda error: self._failed(number, name, job, error),
        )

    def _opened(self, number: int, opened: Opened) -> None:
        if number != self._newest:
            return
        self.opening = ""
        # With no face found nothing is chosen: the window says so and offers the whole picture.
        self.opened, self.tile = opened, None
        self.chosen = opened.faces[0].label if opened.faces else None
        self.opening_changed.emit()
        self.opened_changed.emit()
        self._choose(self.chosen)

    def _failed(self, number: int, name: str, job: Job, error: FaceLLMError) -> None:
        from facellm.ui.build import BuildNeeded

        if number != self._newest:
            return
        if isinstance(error, BuildNeeded):
            self._refused = name, job
        self.opening = ""
        self.opening_changed.emit()
        self.failed.emit(str(error), error.hint)

    def _face_added(self, opened: Opened, face: Face) -> None:
        if opened is self.opened:
            self.faces_changed.emit()
            self._choose(face.label)

    def _face_removed(self, opened: Opened, label: str) -> None:
        if opened is not self.opened:
            return
        self.removed.emit(label)
        self.faces_changed.emit()
        last = opened.faces[-1].label if opened.faces else None
        self._choose(last if self.chosen == label else self.chosen)

    def _choose(self, label: str | None) -> None:
        self.chosen, self.tile = label, None
        self.chosen_changed.emit()
        self.renew_tile()

    def renew_tile(self) -> None:
        """Cut what is chosen again: another model may receive another size."""
        opened, label = self.opened, self.chosen
        if label is None or opened is None:
            return
        self._pool.run(
            lambda _: self._backend.tile(opened, label),
            lambda tile: self._tile_made(opened, label, cast("RgbImage", tile)),
            lambda error: self.failed.emit(str(error), error.hint),
        )

    def _tile_made(self, opened: Opened, label: str, tile: RgbImage) -> None:
        if opened is self.opened and label == self.chosen:
            self.tile = tile
            self.tile_changed.emit()
