"""The window: puts the panes together and shows what the presenters hold; what the user wants is in ``intents``."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QSettings, QSize, Qt
from PySide6.QtGui import QCloseEvent, QKeyEvent, QResizeEvent
from PySide6.QtWidgets import QMainWindow, QStackedWidget, QVBoxLayout, QWidget

from facellm.ui import reading, words
from facellm.ui.inlet import Inlet
from facellm.ui.intents import Intents
from facellm.ui.keys import add_shortcuts, letter_of, preset_of
from facellm.ui.models_side import ModelsSide
from facellm.ui.panes.ask import AskPane
from facellm.ui.panes.conversation import ConversationPane
from facellm.ui.panes.facts import FactsPane
from facellm.ui.panes.filmstrip import Filmstrip
from facellm.ui.panes.notice import NoticeBar
from facellm.ui.panes.setup import SetupPane
from facellm.ui.panes.split import Split
from facellm.ui.panes.stage import Stage
from facellm.ui.panes.strip import Strip
from facellm.ui.presenters.conversation import Exchange
from facellm.ui.presenters.engine import Phase
from facellm.ui.presenters.studio import Studio
from facellm.ui.theme import Theme

_FIRST_SIZE, _LEAST_SIZE = QSize(1280, 820), QSize(640, 480)
#: What a window's frame takes of the screen, about: the true one is known only once it is shown.
_FRAME = QSize(16, 40)
#: Below this height the chips share one row, for the conversation's sake.
_LOW_BELOW = 700


class MainWindow(QMainWindow):
    """Call ``begin`` once it is on the screen; closing it ends everything that it started."""

    def __init__(self, studio: Studio, theme: Theme, settings: QSettings) -> None:
        super().__init__()
        self.studio, self._theme, self._settings = studio, theme, settings
        self.setWindowTitle("FaceLLM")
        self.setMinimumSize(_LEAST_SIZE)
        self.setAcceptDrops(True)
        self._make_panes()
        self._arrange()
        self.inlet = Inlet(self, studio.photo, self.stage, self.notice)
        self.intents = Intents(self)
        self._connect()
        self.models.join()
        add_shortcuts(self, self.intents)
        # Where the screen is small, or its pixels are large, all of the window is on it nevertheless.
        self.resize(_FIRST_SIZE.boundedTo(self.screen().availableSize() - _FRAME))
        geometry = settings.value("window/geometry")
        if geometry is not None:
            self.restoreGeometry(geometry)
        self._photo_changed()
        self._engine_changed()
        reading.set_tab_order(self._root)

    def begin(self, argv: list[str]) -> None:
        """Load the model and open the photo named in ``argv``, in the background."""
        self.studio.begin(self.models.remembered)
        if argv:
            self.inlet.open_paths([Path(argument) for argument in argv])

    def take_focus(self) -> None:
        """Nothing in particular has the focus: single keys reach the window."""
        self._root.setFocus()

    # ------------------------------------------------------------------ building

    def _make_panes(self) -> None:
        theme = self._theme
        self.strip = Strip(theme)
        self.notice = NoticeBar(theme)
        self.engine_notice = NoticeBar(theme, "Restart", "restart")
        self.models = ModelsSide(self, theme, self._settings)
        self.stage = Stage(theme)
        self.filmstrip = Filmstrip(theme)
        self.facts = FactsPane(theme)
        self.conversation = ConversationPane(theme)
        self.setup = SetupPane(theme)
        self.ask = AskPane(theme)

    def _arrange(self) -> None:
        left = _column(self.stage, self.filmstrip)
        left.setMinimumWidth(320)
        self._talk = QStackedWidget()
        self._talk.addWidget(self.conversation)
        self._talk.addWidget(self.setup)
        talk = _column(self._talk, self.ask)
        talk.setMinimumWidth(360)
        self._split = Split(left, self.facts, talk, self._settings)
        self.models.pages.addWidget(self._split)
        notices = (self.engine_notice, self.notice, self.models.ready)
        self._root = root = _column(self.strip, *notices, self.models.pages)
        root.setObjectName("root")
        # Nothing shows a focus ring before the first Tab, and single keys reach the window.
        root.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setCentralWidget(root)
        root.setFocus()

    def _connect(self) -> None:
        studio, intents = self.studio, self.intents
        for button in (self.strip.open, self.stage.welcome.open):
            button.clicked.connect(intents.open_photo)
        for button in (self.strip.paste, self.stage.welcome.paste):
            button.clicked.connect(intents.paste_photo)
        self.strip.keys.clicked.connect(intents.show_keys)
        self.stage.picture.face_clicked.connect(studio.photo.choose)
        self.stage.card.acted.connect(intents.choose_whole)
        self.stage.picture.drawing.drawn.connect(studio.photo.draw)
        self.stage.picture.remove_clicked.connect(studio.photo.remove)
        self.filmstrip.chosen.connect(studio.photo.choose)
        self.facts.save_crop.connect(intents.save_crop)
        self.conversation.again.connect(studio.ask)
        self.ask.asked.connect(studio.ask)
        self.ask.stop.connect(studio.conversation.stop)
        self.ask.field.picture_pasted.connect(intents.paste_photo)
        self.setup.build.connect(studio.engine.build)
        self.setup.build.connect(self.notice.mended)
        self.setup.cancel.connect(studio.engine.cancel_build)
        self.engine_notice.acted.connect(studio.engine.restart)
        studio.engine.changed.connect(self._engine_changed)
        studio.photo.opening_changed.connect(self._opening_changed)
        studio.photo.opened_changed.connect(self._photo_changed)
        studio.photo.faces_changed.connect(self._faces_changed)
        studio.photo.chosen_changed.connect(self._chosen_changed)
        studio.photo.tile_changed.connect(self._tile_changed)
        studio.photo.failed.connect(self.notice.show_text)
        studio.photo.failed.connect(self.stage.picture.drawing.end)
        studio.conversation.thread_changed.connect(self._thread_changed)
        studio.conversation.exchange_changed.connect(self._exchange_changed)
        studio.conversation.answering_changed.connect(self._answering_changed)

    # ------------------------------------------------------------------ showing

    def _engine_changed(self) -> None:
        state = self.studio.engine.state
        self.strip.show_engine(state)
        self.setup.show_engine(state)
        if self.studio.needs_model and self.ask.field.hasFocus():
            self._root.setFocus()  # else Qt gives it, with a ring, to any other part
        self.ask.setVisible(not self.studio.needs_model)  # the way to a model has the room meanwhile
        self._talk.setCurrentWidget(self.setup if self.studio.needs_model else self.conversation)
        if state.phase in (Phase.LOST, Phase.FAILED):
            self.engine_notice.show_text(state.message, state.hint)
        else:
            self.engine_notice.hide()
        self._renew_ask()

    def _opening_changed(self) -> None:
        self.strip.show_photo(self.studio.photo_line())
        if self.studio.photo.opening:
            self.notice.hide()
            self.models.close_card()

    def _photo_changed(self) -> None:
        self.filmstrip.setVisible(self.studio.photo.opened is not None)
        self._faces_changed()
        self._chosen_changed()

    def _faces_changed(self) -> None:
        opened = self.studio.photo.opened
        self.strip.show_photo(self.studio.photo_line())
        if opened is not None:
            self.notice.mended()
            photo, image = opened.photo, opened.shown
            self.stage.picture.show_photo(image, photo.width, opened.faces, Path(photo.name).name, opened.drawn)
            self.stage.show_picture()
            self.filmstrip.show_faces(image, photo.width, opened.faces)
            self._answering_changed()
            reading.set_tab_order(self._root)

    def _chosen_changed(self) -> None:
        photo = self.studio.photo
        self.stage.picture.choose(photo.chosen)
        self.filmstrip.choose(photo.chosen)
        self._split.show_facts(photo.chosen is not None)
        self.facts.show_face(words.face_title(photo.chosen), self.studio.fact_line())
        self.facts.show_crop(photo.tile)
        self.stage.show_faceless(photo.opened is not None and photo.chosen is None)
        self._thread_changed(photo.chosen or "")
        self._renew_ask()

    def _tile_changed(self) -> None:
        self.facts.show_crop(self.studio.photo.tile)

    def _thread_changed(self, label: str) -> None:
        if label == (self.studio.photo.chosen or ""):
            self.conversation.show_thread(self.studio.exchanges(), self.studio.empty_text())
            self.facts.show_received(self.studio.received())
            reading.set_tab_order(self._root)

    def _exchange_changed(self, exchange: Exchange) -> None:
        if exchange.label != self.studio.photo.chosen:
            return
        self.conversation.renew(exchange)
        if not exchange.running:
            self.facts.show_received(self.studio.received())

    def _answering_changed(self) -> None:
        running = self.studio.conversation.running
        self.ask.set_answering(bool(running))
        self.filmstrip.set_busy({exchange.label for exchange in running})

    def _renew_ask(self) -> None:
        self.ask.set_ready(self.studio.can_ask, self.studio.placeholder())

    # ------------------------------------------------------------------ events

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Single keys, when nothing that takes text has the focus."""
        if self.models.card.isVisible():
            super().keyPressEvent(event)
        elif preset := preset_of(event):
            self.ask.ask_preset(preset)
        elif letter := letter_of(event):
            if not self.studio.photo.choose_key(letter) and letter == "B":
                self.intents.draw_box()
        elif event.key() in (Qt.Key.Key_Left, Qt.Key.Key_Right):
            self.studio.photo.choose_next(1 if event.key() == Qt.Key.Key_Right else -1)
        elif event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace) and not event.isAutoRepeat():
            self.studio.photo.remove(self.studio.photo.chosen or "")
        elif event.text() == "/":
            self.intents.to_question()
        else:
            super().keyPressEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._split.fit(self.width())
        self.ask.shelf.set_low(self.height() < _LOW_BELOW)

    def closeEvent(self, event: QCloseEvent) -> None:
        self._settings.setValue("window/geometry", self.saveGeometry())
        self._split.remember()
        self.hide()  # gone at once for the user; the child process takes a moment
        self.studio.close()
        super().closeEvent(event)


def _column(*parts: QWidget) -> QWidget:
    """``parts`` below each other without gaps; the last but fixed ones take the room."""
    result = QWidget()
    layout = QVBoxLayout(result)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(0)
    for part in parts:
        layout.addWidget(part, 1 if isinstance(part, Stage | Split | QStackedWidget) else 0)
    return result
