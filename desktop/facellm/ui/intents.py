"""What the user wants of the window, whatever button, key or drop says so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QByteArray, QObject, Qt
from PySide6.QtGui import QImageWriter
from PySide6.QtWidgets import QFileDialog

from facellm.core.faces import WHOLE
from facellm.ui.panes.keys import KeysCard

if TYPE_CHECKING:
    from facellm.ui.window import MainWindow


class Intents(QObject):
    """Each method is one wish; slots for buttons and shortcuts alike."""

    def __init__(self, window: MainWindow) -> None:
        super().__init__(window)
        self._window, self._studio = window, window.studio

    def open_photo(self) -> None:
        """Ask for a file and open it."""
        self._window.inlet.choose_file()

    def paste_photo(self) -> None:
        """Open what the clipboard holds."""
        self._window.inlet.paste()

    def choose_whole(self) -> None:
        """Talk about the whole picture."""
        self._studio.photo.choose(WHOLE)
        self._window.ask.field.setFocus(Qt.FocusReason.OtherFocusReason)

    def draw_box(self) -> None:
        """Wait for a box round a face that was missed."""
        self._window.stage.picture.begin_drawing()

    def choose_next(self) -> None:
        """The next face."""
        self._studio.photo.choose_next(1)

    def choose_previous(self) -> None:
        """The face before."""
        self._studio.photo.choose_next(-1)

    def ask_preset_of_shortcut(self) -> None:
        """One of Alt+1 … Alt+8."""
        shortcut = self.sender()
        if shortcut is not None:
            self._window.ask.ask_preset(shortcut.property("preset"))

    def show_keys(self) -> None:
        """The card with the keys, in the middle of the window."""
        KeysCard(self._window).show_over(self._window)

    def to_question(self) -> None:
        """Put the cursor into the question field."""
        self._window.ask.field.setFocus(Qt.FocusReason.ShortcutFocusReason)

    def toggle_received(self) -> None:
        """Fold or unfold what the model received."""
        self._window.facts.fold.toggle()

    def escape(self) -> None:
        """Drop a box that is being drawn, or stop the answer; else leave the question field: letters choose faces."""
        picture = self._window.stage.picture
        if picture.drawing.active:
            picture.drawing.end()
        elif self._studio.conversation.running:
            self._studio.conversation.stop()
        else:
            picture.setFocus(Qt.FocusReason.OtherFocusReason)

    def save_crop(self) -> None:
        """Ask for a file and write there what the model receives."""
        crop, opened = self._window.facts.crop, self._studio.photo.opened
        if crop is None or opened is None:
            return
        name = f"{Path(opened.photo.name).stem}-{self._studio.photo.chosen}-{crop.width()}.png"
        path, _ = QFileDialog.getSaveFileName(self._window, "Save what the model receives", name, "PNG picture (*.png)")
        if path:
            self.save_crop_to(path)

    def save_crop_to(self, path: str) -> None:
        """Write the crop as PNG, pixel by pixel; says so, or why not."""
        crop, notice = self._window.facts.crop, self._window.notice
        if crop is not None and QImageWriter(path, QByteArray(b"png")).write(crop):
            notice.show_text(f"Saved {Path(path).name}.", kind="info")
        else:
            notice.show_text(f"{Path(path).name} could not be written.", "Choose another folder.")
