"""The two sides of the window: next to each other, or below each other where the window is narrow."""

from __future__ import annotations

from PySide6.QtCore import QSettings, Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QBoxLayout, QSplitter, QWidget

from facellm.ui.panes.facts import FactsPane
from facellm.ui.parts import named, rule

#: Below this width of the window the conversation goes under the picture.
STACKED_BELOW = 900
_SHARES = {Qt.Orientation.Horizontal: (62, 38), Qt.Orientation.Vertical: (46, 54)}
_FACTS_WIDTH, _ANY = 272, 16777215
#: Unfolded, the facts scroll rather than push the conversation out.
_FACTS_SHARE = 0.45


class Split(QSplitter):
    """Picture side, and a side of facts and talk. Where the handle was left is remembered for each orientation."""

    def __init__(self, left: QWidget, facts: FactsPane, talk: QWidget, settings: QSettings) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self._settings, self._facts = settings, facts
        self.setHandleWidth(1)
        self.setChildrenCollapsible(False)
        side = named(QWidget(), "side")
        side.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._box = QBoxLayout(QBoxLayout.Direction.TopToBottom, side)
        self._box.setContentsMargins(0, 0, 0, 0)
        self._box.setSpacing(0)
        self._lines = (rule(), rule(upright=True))
        for part in (facts, *self._lines):
            self._box.addWidget(part)
        self._box.addWidget(talk, 1)
        self.addWidget(left)
        self.addWidget(side)
        self._restore()
        self.show_facts(False)

    def fit(self, width: int) -> None:
        """The window is ``width`` pixels wide now."""
        wanted = Qt.Orientation.Vertical if width < STACKED_BELOW else Qt.Orientation.Horizontal
        if wanted == self.orientation():
            return
        self.remember()
        self.setOrientation(wanted)
        below = wanted == Qt.Orientation.Vertical
        self._box.setDirection(QBoxLayout.Direction.LeftToRight if below else QBoxLayout.Direction.TopToBottom)
        self._facts.setMinimumWidth(_FACTS_WIDTH if below else 0)
        self._facts.setMaximumWidth(_FACTS_WIDTH if below else _ANY)
        self._bound_facts()
        self.show_facts(not self._facts.isHidden())
        self._restore()

    def show_facts(self, shown: bool) -> None:
        """With or without the facts, and the line beside them."""
        self._facts.setVisible(shown)
        below = self.orientation() == Qt.Orientation.Vertical
        self._lines[0].setVisible(shown and not below)
        self._lines[1].setVisible(shown and below)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._bound_facts()

    def _bound_facts(self) -> None:
        above = self.orientation() == Qt.Orientation.Horizontal
        self._facts.setMaximumHeight(round(_FACTS_SHARE * self.height()) if above else _ANY)

    def remember(self) -> None:
        """Keep where the handle is."""
        if sum(self.sizes()) > 0:
            self._settings.setValue(self._key(), self.saveState())

    def _restore(self) -> None:
        state = self._settings.value(self._key())
        orientation = self.orientation()
        if state is None or not self.restoreState(state):
            self.setSizes([share * 100 for share in _SHARES[orientation]])
        self.setOrientation(orientation)
        for index, share in enumerate(_SHARES[orientation]):
            self.setStretchFactor(index, share)

    def _key(self) -> str:
        return "split/side" if self.orientation() == Qt.Orientation.Horizontal else "split/below"
