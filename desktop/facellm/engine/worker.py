"""The child process: loads llama.cpp, answers one request at a time, listens for "stop" meanwhile."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from facellm.core.ask import Answer, Timings
from facellm.core.errors import FaceLLMError
from facellm.engine.errors import EngineError, Stopped
from facellm.engine.protocol import (
    AskCommand,
    ChooseCommand,
    Chosen,
    Command,
    Done,
    Failed,
    LoadCommand,
    Reply,
    StopCommand,
)

if TYPE_CHECKING:
    from facellm.engine.llama_runtime import Runtime


class Inbox:
    """Commands in order; a stop is not queued but acts at once on the request that runs."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._queue: SimpleQueue[Command] = SimpleQueue()
        self._lock = Lock()
        self._running = 0
        self._cancelled = 0
        self.stop = Event()
        Thread(target=self._listen, name="inbox", daemon=True).start()

    def next(self) -> Command:
        return self._queue.get()

    def begin(self, number: int) -> None:
        """Mark a request as running; a stop that overtook it counts."""
        with self._lock:
            self._running = number
            self.stop.clear()
            if self._cancelled == number:
                self.stop.set()

    def _listen(self) -> None:
        while True:
            try:
                command = self._pipe.recv()
            except (EOFError, OSError):
                # The application is gone: nobody waits for an answer, and nothing needs saving.
                os._exit(0)
            if isinstance(command, StopCommand):
                with self._lock:
                    self._cancelled = command.number
                    if self._running == command.number:
                        self.stop.set()
            else:
                self._queue.put(command)


def serve(pipe: Connection, stderr_path: str) -> None:
    """Entry point of the child. ``stderr_path``: where native crashes leave their last words."""
    log = os.open(stderr_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 2)
    inbox = Inbox(pipe)
    runtime: Runtime | None = None
    while True:
        command = inbox.next()
        number = 0 if isinstance(command, LoadCommand) else command.number
        inbox.begin(number)
        try:
            if isinstance(command, LoadCommand):
                from facellm.engine.llama_runtime import Runtime

                runtime = Runtime(
                    command.package, command.options, inbox.stop, lambda event: pipe.send(Reply(0, event))
                )
                pipe.send(Reply(0, runtime.info))
            elif runtime is None:
                raise EngineError("The engine was asked before a model was loaded.")
            else:
                _answer(runtime, command, pipe)
        except Stopped:
            pipe.send(Reply(number, Done(Answer("", Timings(), "stopped"), "")))
        except FaceLLMError as error:
            pipe.send(Reply(number, Failed(error)))
        except MemoryError:
            pipe.send(Reply(number, Failed(EngineError("The engine ran out of memory.", "Close other programs."))))
        except Exception as error:  # noqa: BLE001 - outermost boundary of the process: say it rather than die mute
            pipe.send(Reply(number, Failed(EngineError(f"The engine failed: {type(error).__name__}: {error}"))))


def _answer(runtime: Runtime, command: Command, pipe: Connection) -> None:
    if isinstance(command, AskCommand):
        for event in runtime.ask(command.request):
            pipe.send(Reply(command.number, event))
    elif isinstance(command, ChooseCommand):
        pipe.send(Reply(command.number, Chosen(runtime.choose(command.images, command.questions))))
