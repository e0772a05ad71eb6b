"""The strip on top: open, paste, what is open; which model answers on which device; that nothing leaves here."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QProgressBar, QWidget

from facellm.core.sizes import bytes_text
from facellm.ui import words
from facellm.ui.panes.models import ModelButton
from facellm.ui.parts import Button, Elided, IconLabel, label, named
from facellm.ui.presenters.engine import EngineState, Phase
from facellm.ui.presenters.importing import ImportState
from facellm.ui.theme import GRID, STRIP_HEIGHT, Theme

#: Narrower than ``_ROOMY``, the model has a share of the strip and the photo keeps its own.
_ROOMY, _MODEL_SHARE, _ANY_WIDTH = 900, 0.2, 16777215
_BETWEEN = " · "
_OFFLINE = "offline"
_OFFLINE_WHY = "FaceLLM opens no network connection: photos, questions and answers stay on this computer."
_FETCHING_WHY = "Parts of the model are being fetched because you asked for it. Photos never leave this computer."


class PhotoLine(Elided):
    """Name, size, number of faces. Where there is no room the size goes first, then the middle of the name."""

    def fitted(self, text: str, width: int) -> str:
        """The number of faces stays: it says what the strip below shows."""
        metrics = self.fontMetrics()
        name, *others = text.rsplit(_BETWEEN, 2)
        if len(others) < 2 or metrics.horizontalAdvance(text) <= width:
            return super().fitted(text, width)
        faces = _BETWEEN + others[-1]
        return super().fitted(name, width - metrics.horizontalAdvance(faces)) + faces


class Strip(QFrame):
    """Buttons are wired by the window."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setObjectName("strip")
        self.setFixedHeight(STRIP_HEIGHT)
        self.open = Button(theme, "Open…", "open", "flat")
        self.open.setToolTip("Open a photo  (Ctrl+O)")
        self.paste = Button(theme, "Paste", "paste", "flat")
        self.paste.setToolTip("Paste a photo  (Ctrl+V)")
        self.keys = Button(theme, icon="keys", kind="icon", name="Keyboard shortcuts")
        self.keys.setToolTip("Keyboard shortcuts  (F1)")
        self._photo = PhotoLine("secondary", Qt.TextElideMode.ElideMiddle)
        self.models = ModelButton(theme)
        self._model = self.models.line
        self._engine, self._import = EngineState(), ImportState()
        self._progress = QProgressBar(textVisible=False, maximum=1000)
        self._progress.setFixedWidth(96)
        self._progress.setAccessibleName("Progress of the model")
        row = QHBoxLayout(self)
        row.setContentsMargins(GRID, 0, 2 * GRID, 1)
        row.setSpacing(GRID)
        row.addWidget(self.open)
        row.addWidget(self.paste)
        row.addSpacing(GRID)
        row.addWidget(self._photo, 1)
        row.addSpacing(GRID)
        row.addWidget(self.models)
        row.addWidget(self._progress)
        row.addSpacing(GRID)
        row.addWidget(self._make_offline(theme), 0, Qt.AlignmentFlag.AlignVCenter)
        row.addWidget(self.keys)
        self.show_engine(self._engine)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        width = event.size().width()
        self._model.setMaximumWidth(_ANY_WIDTH if width >= _ROOMY else round(_MODEL_SHARE * width))
        self.models.updateGeometry()

    def show_photo(self, text: str) -> None:
        """What is open: name, size, number of faces."""
        self._photo.set_full(text)

    def show_engine(self, state: EngineState) -> None:
        """The model line: a dot, words, and progress while something is on its way."""
        tokens = {Phase.READY: "good", Phase.LOST: "danger", Phase.FAILED: "danger", Phase.MISSING: "warning"}
        self.models.show_line(model_line(state), _model_details(state), tokens.get(state.phase, "accent"))
        self._engine = state
        self._show_progress()

    def show_import(self, state: ImportState) -> None:
        """Progress of a model that is brought in, where none is being loaded."""
        self._import = state
        self._show_progress()

    def _show_progress(self) -> None:
        engine, comes = self._engine, self._import
        fraction = engine.fraction if engine.fraction is not None else comes.fraction if comes.running else None
        self._progress.setVisible(fraction is not None)
        # An import whose size is not known only says that something goes on.
        self._progress.setMaximum(1000 if engine.fraction is not None or fraction else 0)
        self._progress.setValue(round(1000 * (fraction or 0.0)))
        self._progress.setToolTip(words.importing(comes.name, comes.fraction) if comes.running else "")
        fetching = engine.phase is Phase.BUILDING or (comes.running and comes.fetches)
        self._offline_text.setText("fetching parts" if fetching else _OFFLINE)
        self._offline.setToolTip(_FETCHING_WHY if fetching else _OFFLINE_WHY)
        self._offline_icon.show_icon("shield", "warning" if fetching else "good")

    def _make_offline(self, theme: Theme) -> QWidget:
        self._offline = named(QFrame(), "pill")
        self._offline_icon = IconLabel(theme, "shield", "good", 16)
        self._offline_text = label(_OFFLINE, role="caption")
        row = QHBoxLayout(self._offline)
        self._offline.setFixedHeight(24)
        row.setContentsMargins(GRID, 0, 10, 0)
        row.setSpacing(4)
        row.addWidget(self._offline_icon)
        row.addWidget(self._offline_text)
        return self._offline


def model_line(state: EngineState) -> str:
    """The model in a few words."""
    match state.phase:
        case Phase.READY if state.info is not None:
            return f"{state.info.model} · {state.info.device}"
        case Phase.LOADING:
            return " · ".join(filter(None, ("Loading the model", words.left(state.seconds_left))))
        case Phase.BUILDING:
            return "Building the model"
        case Phase.MISSING:
            return "Parts are missing"
        case Phase.LOST:
            return "Engine stopped"
        case Phase.FAILED:
            return "Model not loaded"
    return "Looking for the model"


def _model_details(state: EngineState) -> str:
    info = state.info
    if info is None:
        return state.stage or state.message
    sizes = f"language {bytes_text(info.llm_bytes)}, vision {bytes_text(info.mmproj_bytes)}"
    return f"{info.model} on {info.device}\n{sizes}\nloaded in {words.seconds(info.load_s)}\n{info.runtime}"
