"""The card that stands where the conversation would be while there is no model: how to get one, and the progress."""

from __future__ import annotations

from PySide6.QtCore import QSize, Signal
from PySide6.QtWidgets import QHBoxLayout, QProgressBar, QVBoxLayout, QWidget

from facellm.ui import words
from facellm.ui.parts import Button, Flow, IconLabel, label, named
from facellm.ui.presenters.engine import EngineState, Phase
from facellm.ui.scrolling import Scroll
from facellm.ui.theme import GRID, Theme

_WHY = (
    "FaceLLM-nano is put together on this computer from freely licensed parts. They are fetched once, "
    "checked, and joined; that takes a few minutes. From then on nothing is fetched any more."
)


class SetupPane(Scroll):
    """``build``, ``cancel`` and ``import_wanted`` are what the user wants."""

    build = Signal()
    cancel = Signal()
    import_wanted = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._title = label(role="title")
        self._text = label(role="secondary", wrap=True)
        self._error = label(role="danger", wrap=True)
        self._progress = QProgressBar(textVisible=False, maximum=1000)
        self._progress.setAccessibleName("Progress of building the model")
        self._stage = label(role="caption")
        self.build_button = Button(theme, "Build the embedded model", "build", "primary")
        self.build_button.clicked.connect(self.build)
        self.import_button = Button(theme, "Import a model…", "import")
        self.import_button.clicked.connect(self.import_wanted)
        self.cancel_button = Button(theme, "Cancel", name="Cancel building the model")
        self.cancel_button.clicked.connect(self.cancel)
        buttons = Flow((self.build_button, self.import_button, self.cancel_button))
        self.setObjectName("thread")
        body = named(QWidget(), "threadBody")
        self.setWidget(body)
        column = QVBoxLayout(body)
        column.setContentsMargins(3 * GRID, 3 * GRID, 3 * GRID, 3 * GRID)
        column.setSpacing(12)
        column.addStretch(1)
        head = QHBoxLayout()
        head.setSpacing(12)
        head.addWidget(IconLabel(theme, "build", "accent", 32))
        head.addWidget(self._title, 1)
        column.addLayout(head)
        for part in (self._text, self._error, self._progress, self._stage):
            column.addWidget(part)
        column.addWidget(buttons)
        column.addStretch(2)

    def sizeHint(self) -> QSize:
        return QSize(320, 120)  # asks for no more room than the conversation in its place

    def show_engine(self, state: EngineState) -> None:
        """For ``MISSING`` and ``BUILDING``; other phases do not show this card."""
        building = state.phase is Phase.BUILDING
        self._title.setText("Building the model" if building else "The model has to be built")
        self._text.setText(_WHY)
        self._error.setText(f"{state.message} {state.hint}".strip())
        self._error.setVisible(bool(state.message))
        self._progress.setVisible(building)
        self._progress.setValue(round(1000 * (state.fraction or 0.0)))
        self._stage.setVisible(building)
        stage = state.stage[:1].upper() + state.stage[1:]
        self._stage.setText(" · ".join(filter(None, (stage, words.left(state.seconds_left)))))
        self.build_button.setVisible(not building)
        self.import_button.setVisible(not building)
        self.cancel_button.setVisible(building)
