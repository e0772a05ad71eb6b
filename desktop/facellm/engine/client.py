"""The engine as the application sees it: starts the child, asks, stops, and survives the child's death."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Lock, RLock
from types import TracebackType
from typing import Self

from facellm.core.ask import Answer, Question
from facellm.core.faces import RgbImage
from facellm.core.package import ModelPackage
from facellm.engine.errors import EngineDied, EngineError
from facellm.engine.protocol import (
    AskCommand,
    AskEvent,
    AskRequest,
    ChooseCommand,
    Chosen,
    Command,
    Done,
    EngineInfo,
    EngineOptions,
    Failed,
    LoadCommand,
    Loading,
    Reply,
    StopCommand,
)
from facellm.engine.worker import serve

#: Seconds that a child gets to end by itself before it is killed.
GRACE_S = 2.0


class EngineClient:
    """One model in one child process. Methods may be called from any thread; requests are served one at a time,
    a second one waits: two threads on one llama.cpp context abort the process."""

    def __init__(self, package: ModelPackage, options: EngineOptions | None = None) -> None:
        """Starts nothing yet; the child starts with the first :meth:`load` or :meth:`ask`."""
        self.package = package
        self.options = options or EngineOptions()
        self.info: EngineInfo | None = None
        self._turn = RLock()  # held while a request runs
        self._send_lock = Lock()
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._log: Path | None = None
        self._number = 0
        self._running = 0

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.is_alive()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def load(self, on_progress: Callable[[Loading], None] | None = None) -> EngineInfo:
        """Start the child and load the model, unless that is done. Raises the engine's errors."""
        with self._turn:
            if self.alive and self.info is not None:
                return self.info
            self._start()
            self._send(LoadCommand(self.package, self.options))
            while True:
                event = self._receive().event
                if isinstance(event, EngineInfo):
                    self.info = event
                    return event
                if isinstance(event, Failed):
                    self._end()
                    raise event.error
                if isinstance(event, Loading) and on_progress is not None:
                    on_progress(event)

    def ask(self, request: AskRequest) -> Generator[AskEvent, None, None]:
        """Yield ``Encoded``, ``Token``…, ``Done``. Closing the generator stops the answer.

        Raises ``EngineDied`` when the child ends meanwhile, and the engine's other errors; the next
        question starts a fresh child where needed.
        """
        with self._turn:
            self.load()
            number = self._begin()
            finished = False
            try:
                self._send(AskCommand(number, request))
                while not finished:
                    event = self._receive_for(number)
                    finished = isinstance(event, Done)
                    yield event  # type: ignore[misc]
            except EngineError:
                finished = True
                raise
            finally:
                if not finished and self.alive:
                    self.stop()
                    self._drain(number)
                self._running = 0

    def choose(self, images: tuple[RgbImage, ...], questions: list[Question]) -> list[Answer]:
        """Closed questions about the same pictures, all in one pass. Raises the engine's errors."""
        with self._turn:
            self.load()
            number = self._begin()
            try:
                self._send(ChooseCommand(number, images, tuple(questions)))
                event = self._receive_for(number)
                if not isinstance(event, Chosen):
                    raise EngineError("The questions were stopped.")
                return list(event.answers)
            finally:
                self._running = 0

    def stop(self) -> None:
        """End the running answer, from any thread; harmless when none runs."""
        number = self._running
        if number and self._pipe is not None:
            try:
                self._send(StopCommand(number))
            except EngineDied:
                pass  # it has ended more thoroughly than was asked

    def close(self) -> None:
        """End the child. The client can be used again afterwards."""
        self.stop()
        with self._turn:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- the child

    def _start(self) -> None:
        self._end()
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        handle, name = tempfile.mkstemp(prefix="facellm-engine-", suffix=".log")
        os.close(handle)
        self._log = Path(name)
        process = spawn.Process(target=serve, args=(theirs, name), name="facellm-engine", daemon=True)
        process.start()
        theirs.close()
        self._process, self._pipe = process, ours

    def _end(self) -> None:
        process, pipe = self._process, self._pipe
        self._process = self._pipe = self.info = None
        if pipe is not None:
            pipe.close()
        if process is not None:
            process.join(GRACE_S)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        if self._log is not None:
            self._log.unlink(missing_ok=True)
            self._log = None

    def _begin(self) -> int:
        self._number += 1
        self._running = self._number
        return self._number

    def _send(self, command: Command) -> None:
        with self._send_lock:
            if self._pipe is None:
                raise EngineDied("The engine is not running.")
            try:
                self._pipe.send(command)
            except (OSError, ValueError) as error:
                raise self._death() from error

    def _receive(self) -> Reply:
        if self._pipe is None:
            raise EngineDied("The engine is not running.")
        try:
            reply = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._death() from error
        assert isinstance(reply, Reply)
        return reply

    def _receive_for(self, number: int) -> AskEvent | Chosen:
        """The next event of this request; what is left of an earlier one is dropped."""
        while True:
            reply = self._receive()
            if reply.number != number:
                continue
            if isinstance(reply.event, Failed):
                raise reply.event.error
            assert not isinstance(reply.event, Loading | EngineInfo)
            return reply.event

    def _drain(self, number: int) -> None:
        try:
            while not isinstance(self._receive_for(number), Done):
                pass
        except EngineError:
            pass  # the caller has turned away; the next question finds out

    def _death(self) -> EngineDied:
        """Why the child ended, in words; cleans up after it."""
        process, log = self._process, self._log
        reason = "it was closed"
        if process is not None:
            process.join(GRACE_S)
            code = process.exitcode
            if code is not None and code < 0:
                reason = f"it was ended by {signal.Signals(-code).name}"
            else:
                reason = f"it ended with code {code}"
        words = log.read_text("utf-8", "replace").strip().splitlines()[-3:] if log and log.exists() else []
        said = f" Its last words: {' / '.join(words)}" if words else ""
        self._end()
        return EngineDied(f"The engine stopped working: {reason}.{said}", "Ask again: a new engine starts by itself.")
