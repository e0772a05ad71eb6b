"""The conversation about one face: questions at the right, answers at the left, newest last."""

from __future__ import annotations

import math
import re

from PySide6.QtCore import QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QAccessible,
    QAccessibleAnnouncementEvent,
    QGuiApplication,
    QResizeEvent,
)
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QSizePolicy,
    QTextEdit,
    QVBoxLayout,
    QWidget,
)

from facellm.ui import words
from facellm.ui.panes.markdown import MarkdownView
from facellm.ui.parts import Button, Elided, IconLabel, Text, label, named, restyle
from facellm.ui.presenters.conversation import Exchange, Status
from facellm.ui.scrolling import Scroll
from facellm.ui.theme import GRID, Theme

#: 25 Hz: smooth to the eye, and a long answer costs a tenth of a core at most.
REFRESH_MS = 40
_COPIED_MS = 1500
#: The padding is that of #question in window.qss, and a pixel for rounding.
_BUBBLE_SHARE, _BUBBLE_PADDING = 0.85, (26, 17)
_SENTENCES = re.compile(r".+?[.!?:](?=\s)|.+?\n", re.DOTALL)


class Bubble(Text):
    """A question as it was written: as narrow as its text, as wide as it is let."""

    def __init__(self, text: str) -> None:
        self._hint = QSize(0, 0)
        super().__init__(text)
        self.setObjectName("question")
        self.setAccessibleName(f"Question: {text}")
        # Narrower than it would be where the pane has just become so: never what keeps the pane wide.
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)

    def fit(self, width: int) -> None:
        """Want the size of the text at no more than ``width`` pixels."""
        self.ensurePolished()
        across, down = _BUBBLE_PADDING
        document = self.document()
        document.setTextWidth(max(1, width - across))
        self._hint = QSize(math.ceil(document.idealWidth()) + across, math.ceil(document.size().height()) + down)
        self.setFixedHeight(self._hint.height())
        self.updateGeometry()

    def sizeHint(self) -> QSize:
        return self._hint

    def resizeEvent(self, event: QResizeEvent) -> None:
        QTextEdit.resizeEvent(self, event)  # whoever holds it says into what it is to fit


class ExchangeView(QWidget):
    """One question with its answer."""

    again = Signal(str)

    def __init__(self, theme: Theme, exchange: Exchange) -> None:
        super().__init__()
        self._theme, self.exchange = theme, exchange
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(GRID)
        layout.addLayout(self._make_question())
        self._note = label(role="caption", wrap=True)
        self._answer = MarkdownView()
        self._answer.setAccessibleName(f"Answer to: {exchange.question}")
        self._card = self._make_card()
        for part in (self._note, self._answer, self._card):
            layout.addWidget(part)
        layout.addLayout(self._make_caption())
        self.refresh()

    def refresh(self) -> None:
        """Show what the exchange says now."""
        exchange = self.exchange
        self._note.setText(exchange.note)
        self._note.setVisible(bool(exchange.note))
        carded = exchange.status in (Status.REFUSED, Status.FAILED)
        self._card.setVisible(carded)
        if carded:
            self._show_card(exchange)
        shown = bool(exchange.text) and exchange.status is not Status.REFUSED
        self._answer.setVisible(shown)
        if shown:
            self._answer.show_text(exchange.text, caret=exchange.running)
        self._caption.set_full(_caption(exchange))
        self._caption.setVisible(bool(self._caption.full))
        self._copy.setVisible(shown and not exchange.running)
        self._again.setVisible(exchange.status in (Status.STOPPED, Status.FAILED))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._question.fit(round(event.size().width() * _BUBBLE_SHARE))

    def _make_question(self) -> QHBoxLayout:
        self._question = Bubble(self.exchange.question)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(self._question)
        return row

    def _make_card(self) -> QFrame:
        card = named(QFrame(), "card")
        self._card_icon = IconLabel(self._theme, "info")
        self._card_text = Text()
        row = QHBoxLayout(card)
        row.setContentsMargins(12, 10, 12, 10)
        row.setSpacing(10)
        row.addWidget(self._card_icon, 0, Qt.AlignmentFlag.AlignTop)
        row.addWidget(self._card_text, 1)
        return card

    def _show_card(self, exchange: Exchange) -> None:
        refused = exchange.status is Status.REFUSED
        self._card.setProperty("kind", "info" if refused else "danger")
        restyle(self._card)
        self._card_icon.show_icon("shield" if refused else "warning", "accent" if refused else "danger")
        self._card_text.show_text(exchange.text if refused else f"{exchange.error} {exchange.hint}".strip())

    def _make_caption(self) -> QHBoxLayout:
        self._caption = Elided("caption")
        self._copy = Button(self._theme, icon="copy", kind="icon", name="Copy the answer")
        self._copy.clicked.connect(self._copy_answer)
        self._again = Button(self._theme, "Ask again", "restart", "fold")
        self._again.setAccessibleName(f"Ask again: {self.exchange.question}")
        self._again.clicked.connect(self._ask_again)
        self._copied = QTimer(self, singleShot=True, interval=_COPIED_MS)
        self._copied.timeout.connect(self._show_copy)
        row = QHBoxLayout()
        row.setSpacing(GRID)
        row.addWidget(self._caption)
        row.addWidget(self._copy)
        row.addWidget(self._again)
        row.addStretch(1)
        return row

    def _copy_answer(self) -> None:
        QGuiApplication.clipboard().setText(self.exchange.text)
        self._copy.set_icon("check")
        self._copied.start()

    def _show_copy(self) -> None:
        self._copy.set_icon("copy")

    def _ask_again(self) -> None:
        self.again.emit(self.exchange.question)


def _caption(exchange: Exchange) -> str:
    """The line under an answer: whose it is, where more than one model has answered, then ``_progress``."""
    return " · ".join(filter(None, (exchange.model if exchange.says_model else "", _progress(exchange))))


def _progress(exchange: Exchange) -> str:
    """What the answer waits for, how fast it comes, what it cost."""
    match exchange.status:
        case Status.WAITING:
            return "Waiting…"
        case Status.LOOKING:
            return "Looking at the picture…"
        case Status.THINKING:
            return "Thinking…"
        case Status.ANSWERING:
            return f"Answering · {words.speed(exchange.tokens_per_s)}" if exchange.tokens > 3 else "Answering"
        case Status.STOPPED:
            return f"Stopped after {words.plural(exchange.tokens, 'token')}" if exchange.tokens else "Stopped"
        case Status.REFUSED | Status.FAILED:
            return ""
    cost = words.cost(exchange.answer.timings) if exchange.answer else ""
    return f"{cost} · cut short" if exchange.status is Status.LENGTH else cost


class ConversationPane(Scroll):
    """The exchanges of the chosen face. Stays at the end while the reader is there, and never jumps otherwise."""

    again = Signal(str)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._views: list[ExchangeView] = []
        self._stale: set[Exchange] = set()
        self._at_end = True
        self._announced = 0
        self.setObjectName("thread")
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._body = named(QWidget(), "threadBody")
        self._column = QVBoxLayout(self._body)
        self._column.setContentsMargins(2 * GRID, 2 * GRID, 2 * GRID, 2 * GRID)
        self._column.setSpacing(3 * GRID)
        self._empty = label(role="secondary", wrap=True)
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._column.addWidget(self._empty, 1)
        self._column.addStretch(0)
        self.setWidget(self._body)
        self._refresh = QTimer(self, singleShot=True, interval=REFRESH_MS)
        self._refresh.timeout.connect(self._refresh_stale)
        bar = self.verticalScrollBar()
        bar.rangeChanged.connect(self._range_changed)
        bar.valueChanged.connect(self._value_changed)

    @property
    def views(self) -> tuple[ExchangeView, ...]:
        """Oldest first."""
        return tuple(self._views)

    def sizeHint(self) -> QSize:
        return QSize(320, 120)  # a long conversation does not ask for more room, it scrolls

    def show_thread(self, exchanges: tuple[Exchange, ...], empty_text: str) -> None:
        """Show these exchanges; views of those already shown are kept."""
        known = {view.exchange: view for view in self._views}
        for view in self._views:
            if view.exchange not in exchanges:
                self._column.removeWidget(view)
                view.setParent(None)
                view.deleteLater()
        self._views = [known.get(exchange) or self._new_view(exchange) for exchange in exchanges]
        for index, view in enumerate(self._views):
            self._column.insertWidget(index + 1, view)
        self._empty.setText(empty_text)
        self._empty.setVisible(not exchanges)
        self._column.setStretch(self._column.count() - 1, 0 if not exchanges else 1)
        self._at_end = True

    def renew(self, exchange: Exchange) -> None:
        """Something changed in ``exchange``: shown with the next refresh, at once when it ended."""
        self._stale.add(exchange)
        if not exchange.running:
            self._refresh_stale()
        elif not self._refresh.isActive():
            self._refresh.start()

    def _new_view(self, exchange: Exchange) -> ExchangeView:
        view = ExchangeView(self._theme, exchange)
        view.again.connect(self.again)
        return view

    def _refresh_stale(self) -> None:
        for view in self._views:
            if view.exchange in self._stale:
                view.refresh()
                self._announce(view.exchange)
        self._stale.clear()

    def _announce(self, exchange: Exchange) -> None:
        """Tell a screen reader each sentence once, when it is complete."""
        if exchange.running and self._announced > len(exchange.text):
            self._announced = 0
        new = exchange.text[self._announced :]
        if exchange.running:
            new = "".join(_SENTENCES.findall(new))
        spoken = new.strip() or (exchange.error if not exchange.running else "")
        self._announced = self._announced + len(new) if exchange.running else 0
        if spoken and QAccessible.isActive():
            QAccessible.updateAccessibility(QAccessibleAnnouncementEvent(self, spoken))

    def _range_changed(self, low: int, high: int) -> None:
        if self._at_end:
            self.verticalScrollBar().setValue(high)

    def _value_changed(self, value: int) -> None:
        self._at_end = value >= self.verticalScrollBar().maximum() - 2 * GRID
