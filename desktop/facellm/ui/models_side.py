"""The window's side of models: their menu, the card that imports one, and what is said when it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QSettings
from PySide6.QtWidgets import QStackedWidget

from facellm.ui import words
from facellm.ui.panes.importing import ImportPane
from facellm.ui.panes.models import ModelsMenu
from facellm.ui.panes.notice import NoticeBar
from facellm.ui.presenters.importing import ImportPhase

if TYPE_CHECKING:
    from facellm.ui.importing import ImportedModel
    from facellm.ui.theme import Theme
    from facellm.ui.window import MainWindow

_REMEMBERED = "model/name"


class ModelsSide(QObject):
    """Made with the window's other parts; ``join`` once the page that the card takes the place of is in ``pages``."""

    def __init__(self, window: MainWindow, theme: Theme, settings: QSettings) -> None:
        super().__init__(window)
        self._window, self._studio, self._settings = window, window.studio, settings
        self.menu = ModelsMenu(window)
        self.card = ImportPane(theme, window.studio.models.taken)
        self.ready = NoticeBar(theme, "Use it", "check", dismissable=True)
        self.pages = QStackedWidget()

    @property
    def remembered(self) -> str:
        """The name of the model that was chosen last, or nothing."""
        return str(self._settings.value(_REMEMBERED, ""))

    def join(self) -> None:
        """Add the card to the pages, and connect it and the menu with the presenters."""
        studio, intents, card = self._studio, self._window.intents, self.card
        self.pages.addWidget(card)
        self._window.strip.models.clicked.connect(intents.show_models)
        self._window.setup.import_wanted.connect(intents.import_model)
        self._window.inlet.model_given.connect(intents.import_model)
        self.menu.chosen.connect(studio.use)
        self.menu.import_wanted.connect(intents.import_model)
        self.menu.folder_wanted.connect(intents.open_models_folder)
        card.look.connect(studio.importing.look)
        card.start.connect(studio.importing.start)
        card.cancel.connect(studio.importing.cancel)
        card.closed.connect(self.close_card)
        for use in (card.use, self.ready.acted):
            use.connect(self._use_imported)
        studio.models.changed.connect(self._models_changed)
        studio.models.chosen.connect(self._remember)
        studio.model_gone.connect(self._model_gone)
        studio.importing.looked_changed.connect(self._looked_changed)
        studio.importing.changed.connect(self._import_changed)
        studio.importing.imported.connect(self._imported)
        self._models_changed()

    def open_card(self) -> None:
        """Show the card in the place of picture and conversation."""
        self._studio.models.refresh()  # and so look again which names are taken
        self.ready.hide()
        self.pages.setCurrentWidget(self.card)
        self.card.set_focus()

    def close_card(self) -> None:
        """Back to picture and conversation. An import that runs goes on; what was typed is kept."""
        if self.pages.currentWidget() is not self.card:
            return
        self.pages.setCurrentIndex(0)
        self._window.take_focus()
        self._studio.importing.seen()

    def _use_imported(self) -> None:
        self.ready.hide()
        self._studio.use_imported()
        self.close_card()

    def _models_changed(self) -> None:
        self.menu.show_models(self._studio.models.entries, self._studio.models.current)
        self.card.renew()

    def _remember(self, name: str) -> None:
        self._settings.setValue(_REMEMBERED, name)

    def _model_gone(self, text: str, hint: str) -> None:
        self._window.notice.show_text(text, hint, "warning")

    def _looked_changed(self) -> None:
        self.card.show_looked(self._studio.importing.looked)

    def _import_changed(self) -> None:
        state = self._studio.importing.state
        self._window.strip.show_import(state)
        self.card.show_state(state)
        self.menu.show_import(words.importing(state.name, state.fraction) if state.running else "")
        if self.card.isVisible():
            return
        if state.phase is ImportPhase.FAILED:
            self._window.notice.show_text(f"{state.name} was not imported: {state.message}", state.hint)
        elif state.phase is ImportPhase.DONE:
            self.ready.show_text(f"{state.title} is ready.", " ".join(state.notes), "info")

    def _imported(self, model: ImportedModel) -> None:
        if self._studio.importing.state.phase is ImportPhase.IDLE:  # there was no model before: it answers at once
            self.ready.hide()
            self.close_card()
            self._window.notice.show_text(f"{model.title} is ready.", " ".join(model.notes), "info")
