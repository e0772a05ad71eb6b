"""Work off the GUI thread: a job runs in a pool, and what it gives comes back as calls in the thread that asked."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol, TypeAlias

from PySide6.QtCore import QObject, QRunnable, Qt, QThreadPool, Signal, Slot

from facellm.core.errors import FaceLLMError

log = logging.getLogger(__name__)

Emit: TypeAlias = Callable[[object], None]
Job: TypeAlias = Callable[[Emit], object]
Listener: TypeAlias = Callable[[object], None]
OnError: TypeAlias = Callable[[FaceLLMError], None]


def ignore(_: object) -> None:
    """For a job whose result nobody needs."""


def as_user_error(error: BaseException) -> FaceLLMError:
    """What a job raised, as a sentence that can be shown. Unforeseen errors are logged with their traceback."""
    if isinstance(error, FaceLLMError):
        return error
    log.error("a background job failed", exc_info=error)
    return FaceLLMError(
        f"Something went wrong inside FaceLLM: {str(error) or type(error).__name__}.", "The log says more."
    )


class Runner(Protocol):
    """Runs jobs one way or another. ``job(emit)`` may call ``emit(event)`` as often as it likes."""

    def run(self, job: Job, on_done: Listener, on_error: OnError, on_event: Listener = ignore) -> None:
        """Start ``job``; its events, then its result or its error, are delivered in the calling thread."""

    def close(self) -> None:
        """Wait for running jobs; nothing is delivered afterwards."""


class _Relay(QObject):
    """Lives in the thread that asked; the worker only emits its signals."""

    said = Signal(object)
    ended = Signal(object, object)

    def __init__(self, owner: PoolRunner, on_done: Listener, on_error: OnError, on_event: Listener) -> None:
        super().__init__()
        self._owner = owner
        self._on_done, self._on_error, self._on_event = on_done, on_error, on_event
        self.said.connect(self._pass_event, Qt.ConnectionType.QueuedConnection)
        self.ended.connect(self._pass_end, Qt.ConnectionType.QueuedConnection)

    @Slot(object)
    def _pass_event(self, event: object) -> None:
        if not self._owner.closed:
            self._on_event(event)

    @Slot(object, object)
    def _pass_end(self, result: object, error: BaseException | None) -> None:
        self._owner.forget(self)
        if self._owner.closed:
            return
        if error is None:
            self._on_done(result)
        else:
            self._on_error(as_user_error(error))


class _Run(QRunnable):
    def __init__(self, job: Job, relay: _Relay) -> None:
        super().__init__()
        self._job, self._relay = job, relay

    def run(self) -> None:
        try:
            result = self._job(self._relay.said.emit)
        except Exception as error:  # noqa: BLE001 - the outermost boundary of this thread
            self._relay.ended.emit(None, error)
        else:
            self._relay.ended.emit(result, None)


class PoolRunner:
    """A pool of ``threads`` threads; with one thread, jobs run one after the other in the order asked."""

    def __init__(self, threads: int) -> None:
        self._pool = QThreadPool()
        self._pool.setMaxThreadCount(threads)
        self._relays: set[_Relay] = set()
        self.closed = False

    def run(self, job: Job, on_done: Listener, on_error: OnError, on_event: Listener = ignore) -> None:
        relay = _Relay(self, on_done, on_error, on_event)
        self._relays.add(relay)  # a relay collected while its job runs would take the result with it
        self._pool.start(_Run(job, relay))

    def forget(self, relay: _Relay) -> None:
        """The job of ``relay`` has delivered its end."""
        self._relays.discard(relay)

    def close(self) -> None:
        self.closed = True
        self._pool.clear()
        self._pool.waitForDone()
        self._relays.clear()


class InlineRunner:
    """Runs each job at once in the calling thread, so that asynchronous logic can be tested without sleeping."""

    def run(self, job: Job, on_done: Listener, on_error: OnError, on_event: Listener = ignore) -> None:
        try:
            result = job(on_event)
        except Exception as error:  # noqa: BLE001 - as in a pool's thread
            on_error(as_user_error(error))
            return
        on_done(result)

    def close(self) -> None:
        """Nothing runs."""
