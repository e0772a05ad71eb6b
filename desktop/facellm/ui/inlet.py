"""How photos come in: chosen in a dialog, dropped on the window, pasted. A dropped model is passed on."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QEvent, QMimeData, QObject, QUrl, Signal
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QGuiApplication, QImage
from PySide6.QtWidgets import QFileDialog, QWidget

from facellm.ui import pixels
from facellm.ui.panes.notice import NoticeBar
from facellm.ui.panes.stage import Stage
from facellm.ui.presenters.photo import PhotoPresenter

_FILTER = "Photos (*.jpg *.jpeg *.png *.webp *.heic *.heif *.tif *.tiff *.bmp *.gif *.avif);;All files (*)"


class Inlet(QObject):
    """Watches the window for drags; what it cannot take, it explains in the notice line.

    ``model_given``: the path of a folder or a GGUF file, which is no photo.
    """

    model_given = Signal(str)

    def __init__(self, window: QWidget, photo: PhotoPresenter, stage: Stage, notice: NoticeBar) -> None:
        super().__init__(window)
        self._window, self._photo, self._stage, self._notice = window, photo, stage, notice
        self._folder = ""
        window.setAcceptDrops(True)
        window.installEventFilter(self)

    def choose_file(self) -> None:
        """Ask for a file."""
        path, _ = QFileDialog.getOpenFileName(self._window, "Open a photo", self._folder, _FILTER)
        if path:
            self._folder = str(Path(path).parent)
            self._photo.open_file(Path(path))

    def paste(self) -> None:
        """Open the picture or the file in the clipboard."""
        if not self.take(QGuiApplication.clipboard().mimeData(), "pasted picture"):
            self._notice.show_text("There is no picture in the clipboard.", "Copy one first.", "info")

    def open_paths(self, paths: list[Path]) -> None:
        """Open the first of these; says so when there are more."""
        self._photo.open_file(paths[0])
        if len(paths) > 1:
            self._notice.show_text(f"Opened {paths[0].name}, the first of {len(paths)}.", kind="info")

    def take(self, mime: QMimeData | None, name: str) -> bool:
        """Open what was dropped or pasted; false if there is no picture in it."""
        if mime is None:
            return False
        paths = _files(mime)
        image = pixels.mime_image(mime)
        if models := [path for path in paths if path.is_dir() or path.suffix.lower() == ".gguf"]:
            self.model_given.emit(str(models[0]))
        elif paths:
            self.open_paths(paths)
        elif image is not None:
            self._open_image(image, name)
        elif mime.hasUrls():
            self._notice.show_text("That picture is on the web.", "Save it first: FaceLLM fetches nothing.", "info")
        else:
            return False
        return True

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Drags over the window and drops on it."""
        if isinstance(event, QDragEnterEvent) and _promising(event.mimeData()):
            event.acceptProposedAction()
            self._stage.set_hovering(True)
            return True
        if event.type() == QEvent.Type.DragLeave:
            self._stage.set_hovering(False)
        elif isinstance(event, QDropEvent) and event.type() == QEvent.Type.Drop:
            self._stage.set_hovering(False)
            if self.take(event.mimeData(), "dropped picture"):
                event.acceptProposedAction()
            return True
        return super().eventFilter(watched, event)

    def _open_image(self, image: QImage, name: str) -> None:
        self._photo.open_encoded(lambda: pixels.png_bytes(image), name)


def _files(mime: QMimeData) -> list[Path]:
    return [Path(url.toLocalFile()) for url in mime.urls() if url.isLocalFile()]


def _promising(mime: QMimeData) -> bool:
    return mime.hasImage() or any(_is_promising(url) for url in mime.urls())


def _is_promising(url: QUrl) -> bool:
    return url.isLocalFile() or url.scheme() in ("http", "https")
