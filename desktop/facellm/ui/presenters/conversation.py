"""Questions and answers, one thread per face: asked in order, streamed, stopped, refused or lost."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum
from threading import Event
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from facellm.core.ask import Answer, Question
from facellm.core.errors import FaceLLMError

if TYPE_CHECKING:
    from facellm.ui.ports import Backend, Opened
    from facellm.ui.tasks import Emit, Runner


class Status(Enum):
    """How far an exchange is."""

    WAITING = "waiting"
    LOOKING = "looking"
    THINKING = "thinking"
    ANSWERING = "answering"
    DONE = "done"
    LENGTH = "length"
    STOPPED = "stopped"
    REFUSED = "refused"
    FAILED = "failed"


_RUNNING = (Status.WAITING, Status.LOOKING, Status.THINKING, Status.ANSWERING)
_FINISHED = {"length": Status.LENGTH, "stopped": Status.STOPPED, "policy": Status.REFUSED}


@dataclass(slots=True, eq=False)
class Exchange:
    """A question and what is known of its answer so far. ``text`` is Markdown from the model: not trusted.

    ``says_model``: in this thread more than one has answered, so that each answer says whose it is.
    """

    label: str
    question: str
    status: Status = Status.WAITING
    text: str = ""
    note: str = ""
    tokens: int = 0
    tokens_per_s: float = 0.0
    image_cached: bool = False
    answer: Answer | None = None
    prompt: str = ""
    model: str = ""
    says_model: bool = False
    error: str = ""
    hint: str = ""
    loading: bool = field(default=False, repr=False)
    cancelled: Event = field(default_factory=Event, repr=False)
    first_token_at: float = field(default=0.0, repr=False)

    @property
    def running(self) -> bool:
        """Whether more is to come."""
        return self.status in _RUNNING


class ConversationPresenter(QObject):
    """Asks through the lane (one thread), so answers come in the order of the questions."""

    thread_changed = Signal(str)
    exchange_changed = Signal(object)
    answering_changed = Signal()
    engine_loading = Signal(object)
    engine_loaded = Signal(object)
    engine_lost = Signal(object)
    engine_failed = Signal(object)

    def __init__(self, backend: Backend, lane: Runner) -> None:
        super().__init__()
        self._backend, self._lane = backend, lane
        self._opened: Opened | None = None
        self._threads: dict[str, list[Exchange]] = {}

    def reset(self, opened: Opened) -> None:
        """Another photo: what runs is stopped, threads start empty."""
        self.stop()
        self._opened, self._threads = opened, {}
        self.answering_changed.emit()

    def exchanges(self, label: str | None) -> tuple[Exchange, ...]:
        """The exchanges about this face, oldest first."""
        return tuple(self._threads.get(label or "", ()))

    def forget(self, label: str) -> None:
        """The face is gone: what runs about it is stopped, its thread dropped."""
        for exchange in self._threads.pop(label, ()):
            self._cancel(exchange)
        self.thread_changed.emit(label)
        self.answering_changed.emit()

    @property
    def running(self) -> tuple[Exchange, ...]:
        """What is being answered or waits for it, of all faces, in no particular order."""
        return tuple(e for thread in self._threads.values() for e in thread if e.running)

    def ask(self, label: str, text: str) -> Exchange | None:
        """Ask about a face. An empty question or no photo: nothing happens."""
        text = text.strip()
        opened = self._opened
        if not text or opened is None:
            return None
        exchange = Exchange(label, text)
        self._threads.setdefault(label, []).append(exchange)
        self.thread_changed.emit(label)
        self.answering_changed.emit()

        def job(emit: Emit) -> None:
            self._answer(opened, exchange, emit)

        self._lane.run(
            job,
            lambda _: self._ended(exchange),
            lambda error: self._failed(exchange, error),
            lambda event: self._event(exchange, event),
        )
        return exchange

    def stop(self) -> None:
        """End the running answer and everything that waits. Words already there stay."""
        for exchange in self.running:
            self._cancel(exchange)

    def _cancel(self, exchange: Exchange) -> None:
        exchange.cancelled.set()
        if exchange.status is Status.WAITING:
            self._finish(exchange, Status.STOPPED)
        elif exchange.running:
            self._backend.stop()

    def _answer(self, opened: Opened, exchange: Exchange, emit: Emit) -> None:
        """In the lane's thread. A stop that came before the engine had the question is repeated here."""
        if exchange.cancelled.is_set():
            return
        exchange.loading = True
        emit(self._backend.load(emit))  # at once, unless the child died since the last question
        exchange.loading = False
        if exchange.cancelled.is_set():
            return
        for event in self._backend.ask(opened, exchange.label, Question(exchange.question)):
            emit(event)
            if exchange.cancelled.is_set():
                self._backend.stop()

    def _event(self, exchange: Exchange, event: object) -> None:
        from facellm.engine.protocol import Done, Encoded, EngineInfo, Loading, Token

        if isinstance(event, Loading):
            self.engine_loading.emit(event)
            return
        if isinstance(event, EngineInfo):
            self.engine_loaded.emit(event)
        if not exchange.running:
            return
        if isinstance(event, EngineInfo):
            exchange.status, exchange.model = Status.LOOKING, event.model
            self._say_models(exchange.label)
        elif isinstance(event, Encoded):
            exchange.status, exchange.image_cached = Status.THINKING, event.cached
        elif isinstance(event, Token):
            self._token(exchange, event.text)
        elif isinstance(event, Done):
            exchange.answer, exchange.prompt, exchange.text = event.answer, event.prompt, event.answer.text
            exchange.note = getattr(event.answer, "note", "")
            self._finish(exchange, _FINISHED.get(event.answer.finish, Status.DONE))
            return
        self.exchange_changed.emit(exchange)

    def _say_models(self, label: str) -> None:
        thread = [exchange for exchange in self._threads.get(label, ()) if exchange.model]
        if len({exchange.model for exchange in thread}) > 1:
            for exchange in thread:
                if not exchange.says_model:
                    exchange.says_model = True
                    self.exchange_changed.emit(exchange)

    def _token(self, exchange: Exchange, text: str) -> None:
        now = time.monotonic()
        if exchange.status is not Status.ANSWERING:
            exchange.status, exchange.first_token_at = Status.ANSWERING, now
        exchange.text += text
        exchange.tokens += 1
        elapsed = now - exchange.first_token_at
        exchange.tokens_per_s = (exchange.tokens - 1) / elapsed if elapsed > 0 else 0.0

    def _ended(self, exchange: Exchange) -> None:
        if exchange.running:  # the stream ended without Done: only after a stop
            self._finish(exchange, Status.STOPPED)

    def _failed(self, exchange: Exchange, error: FaceLLMError) -> None:
        from facellm.engine.errors import EngineDied

        if isinstance(error, EngineDied):  # why it died is said once, for the window
            exchange.error = "The engine stopped before the answer was complete."
            self.engine_lost.emit(error)
        elif exchange.loading:  # the same: nothing can be asked at all
            exchange.error = "The model could not be loaded."
            self.engine_failed.emit(error)
        else:
            exchange.error, exchange.hint = str(error), error.hint
        if exchange.running:
            self._finish(exchange, Status.FAILED)

    def _finish(self, exchange: Exchange, status: Status) -> None:
        exchange.status = status
        self.exchange_changed.emit(exchange)
        self.answering_changed.emit()
