"""What the user wants of the window, whatever button, key or drop says so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QByteArray, QObject, Qt, QUrl
from PySide6.QtGui import QDesktopServices, QImageWriter
from PySide6.QtWidgets import QFileDialog

from facellm.core.errors import FaceLLMError
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
        """Close the card, drop a box that is being drawn, or stop the answer; else leave the question field: letters
        choose faces.
        """
        picture = self._window.stage.picture
        if self._window.models.card.isVisible():
            self._window.models.close_card()
        elif picture.drawing.active:
            picture.drawing.end()
        elif self._studio.conversation.running:
            self._studio.conversation.stop()
        else:
            picture.setFocus(Qt.FocusReason.OtherFocusReason)

    def show_models(self) -> None:
        """The menu of models, which is renewed while it is open."""
        self._studio.models.refresh()
        self._window.models.menu.open_below(self._window.strip.models)

    def import_model(self, source: str = "") -> None:
        """The card on which a model is brought in, with this source where one was given."""
        self._window.models.open_card()
        self._window.models.card.take(source)

    def open_models_folder(self) -> None:
        """Show the folder of models in the file manager; says so where there is none."""
        try:
            folder = self._studio.models.folder()
        except FaceLLMError as error:
            self._window.notice.show_text(str(error), error.hint)
            return
        if not QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder))):
            self._window.notice.show_text("No file manager shows the folder of models.", f"It is {folder}.", "warning")

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
