"""The engine as the application sees it: starts the child, asks, stops, and survives the child's death."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Self

from facellm.core.ask import Answer, Question
from facellm.core.faces import RgbImage
from facellm.core.package import ModelPackage
from facellm.core.prompt import choice_keys
from facellm.engine.errors import BadPicture, EngineBusy, EngineDied, EngineError
from facellm.engine.process import Child, Nudge
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
    StopCommand,
    Token,
)
from facellm.engine.running import LOST_S, Running, is_over, patience, stopped

_AGAIN = "Ask again: a new engine starts by itself."


class EngineClient:
    """One model in one child process. Any method may be called from any thread.

    Requests are served one at a time, because two threads on one llama.cpp context abort the process. A request
    from another thread waits for its turn, so that a question asked while the last answer is still being stopped
    needs no care; a thread that would wait for its own unfinished answer gets ``EngineBusy`` instead.
    """

    def __init__(self, package: ModelPackage, options: EngineOptions | None = None) -> None:
        """Starts nothing yet; the child starts with the first :meth:`load`, :meth:`ask` or :meth:`choose`."""
        self.package = package
        self.options = options or EngineOptions()
        self.info: EngineInfo | None = None
        self._turn = threading.Lock()
        self._owner = 0
        self._replacing = threading.Lock()
        self._child: Child | None = None
        self._finalizer: weakref.finalize[[], EngineClient] | None = None
        self._number = 0
        self._running: Running | None = None
        self._late: Running | None = None

    @property
    def alive(self) -> bool:
        child = self._child
        return child is not None and child.alive

    @property
    def pid(self) -> int | None:
        child = self._child
        return child.pid if child is not None else None

    def load(self, on_progress: Callable[[Loading], None] | None = None) -> EngineInfo:
        """Start the child and load the model, unless that is done; ``stop`` does not end it, ``close`` does.

        Raises the engine's errors.
        """
        self._take_turn()
        try:
            info = self._loaded(Running(0), on_progress)
            assert info is not None  # only a stop gives none, and nobody can stop request 0
            return info
        finally:
            self._end_turn()

    def ask(self, request: AskRequest) -> Generator[AskEvent, None, None]:
        """Yield ``Encoded`` (if there are pictures), ``Token``…, ``Done``. Closing the generator stops the answer.

        Raises ``ValueError`` for impossible choices, ``BadPicture``, ``EngineDied`` when the child ends
        meanwhile, and the engine's other errors; the next question starts a fresh child where needed.
        """
        self._check(request.images, (request.question,))
        self._take_turn()
        try:
            running = self._begin()
            if self._loaded(running) is None:
                yield stopped(running)
                return
            yield from self._answer(AskCommand(running.number, request), running)
        finally:
            self._end_turn()

    def choose(self, images: tuple[RgbImage, ...], questions: list[Question]) -> list[Answer]:
        """Closed questions about the same pictures, all in one pass. Raises the engine's errors."""
        self._check(images, tuple(questions))
        if not all(question.choices for question in questions):
            raise ValueError("choose() takes questions with choices")
        self._take_turn()
        try:
            running = self._begin()
            if self._loaded(running) is not None:
                self._send(ChooseCommand(running.number, images, tuple(questions)))
                event = self._event(running)
                if isinstance(event, Chosen):
                    return list(event.answers)
            raise EngineError("The questions were stopped.")
        finally:
            self._end_turn()

    def stop(self) -> None:
        """End what is running, within 0.3 s; harmless when nothing is."""
        running, child = self._running, self._child
        if running is None or running.stopped_at:
            return
        running.stopped_at = time.monotonic()
        if child is not None:
            child.send(StopCommand(running.number))
            child.nudge()

    def close(self) -> None:
        """End the child; a running answer ends as stopped. The client can be used again afterwards."""
        self.stop()
        self._replace(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- turns

    def _take_turn(self) -> None:
        me = threading.get_ident()
        if not self._turn.acquire(blocking=False):
            if self._owner == me:
                raise EngineBusy("An earlier answer has not ended.", "Read it to its end or close it first.")
            self._turn.acquire()
        self._owner = me

    def _end_turn(self) -> None:
        self._running = None
        self._owner = 0
        self._turn.release()

    def _begin(self) -> Running:
        self._number += 1
        self._running = running = Running(self._number)
        return running

    def _check(self, images: tuple[RgbImage, ...], questions: tuple[Question, ...]) -> None:
        tile = self.package.tile
        for image in images:
            if image.shape != (tile, tile, 3) or image.dtype.name != "uint8":
                raise BadPicture(
                    f"This model takes pictures of {tile}×{tile} pixels in uint8 RGB, got {image.dtype} {image.shape}.",
                    "Cut the picture with facellm.vision.crop.",
                )
        for question in questions:
            if question.choices:
                choice_keys(question.choices)

    # ---- requests

    def _loaded(self, running: Running, on_progress: Callable[[Loading], None] | None = None) -> EngineInfo | None:
        """The model ready to be asked; ``None`` when stopped meanwhile (the child goes on loading)."""
        if not self._bury(running):
            return None
        while self.info is None:
            if self._child is None:
                self._replace(_new_child())
                self._send(LoadCommand(self.package, self.options))
            event = self._event(running, loading=True)
            if event is None:
                return None
            if isinstance(event, EngineInfo):
                self.info = event
            elif isinstance(event, Loading) and on_progress is not None:
                on_progress(event)
        return self.info if not running.stopped_at else None

    def _answer(self, command: AskCommand, running: Running) -> Generator[AskEvent, None, None]:
        finished = False
        try:
            self._send(command)
            while not finished:
                event = self._event(running) or stopped(running)
                assert isinstance(event, AskEvent)
                if isinstance(event, Token):
                    running.texts.append(event.text)
                finished = isinstance(event, Done)
                yield event
        except EngineError:
            finished = True
            raise
        finally:
            if not finished:  # the caller has turned away
                self.stop()
                self._wait_for_end(running)

    def _wait_for_end(self, running: Running) -> None:
        try:
            while not isinstance(self._event(running), Done | None):
                continue
        except EngineError:
            pass  # nobody listens any more; the next question finds out

    def _event(self, running: Running, *, loading: bool = False) -> AskEvent | Loading | EngineInfo | Chosen | None:
        """The next event of this request (or of loading); ``None`` when it was stopped and the child is late."""
        child = self._child
        while child is not None:
            try:
                reply = child.receive(patience(running, loading=loading))
            except TimeoutError:
                self._late = None if loading else running
                return None
            if reply is None and self._child is child:
                raise self._death(child)
            if reply is None:  # closed by another thread
                break
            if isinstance(reply, Nudge) or reply.number != (0 if loading else running.number):
                continue
            if isinstance(reply.event, Failed):
                if loading:
                    self._replace(None)
                raise reply.event.error
            return reply.event
        if loading:
            raise EngineError("The engine was closed while it was loading.")
        return None

    def _bury(self, running: Running) -> bool:
        """Drop a child that died unnoticed, or that never came back from a stopped request.

        False when ``running`` was itself stopped before that was known.
        """
        child, late = self._child, self._late
        if child is not None and late is not None:
            while not is_over(child, late, running):
                if running.stopped_at:
                    return False
                if time.monotonic() > late.stopped_at + LOST_S:
                    child.end(now=True)
                    break
        self._late = None
        if child is not None and not child.alive:
            self._replace(None)
        return True

    # ---- the child

    def _send(self, command: Command) -> None:
        child = self._child
        if child is not None:
            child.send(command)

    def _replace(self, fresh: Child | None) -> None:
        """End the child there is, if any, and put another in its place."""
        with self._replacing:
            old, self._child, self.info = self._child, fresh, None
            if self._finalizer is not None:
                self._finalizer.detach()
            # At exit, or when the client is forgotten without close: no child may stay behind.
            self._finalizer = weakref.finalize(self, fresh.end, now=True) if fresh is not None else None
        if old is not None:
            old.end()

    def _death(self, child: Child) -> EngineDied:
        reason, lines = child.autopsy()
        was = "while loading the model" if self.info is None else "while it was answering"
        words = f" Its last words: {' / '.join(lines)}" if lines else ""
        hint = _AGAIN if reason != "signal SIGKILL" else f"Something ended it, perhaps for want of memory. {_AGAIN}"
        if child.unreadable:
            hint = "FaceLLM was changed while it was open: close it and start it again."
        self._replace(None)
        return EngineDied(f"The engine stopped working {was}: {reason}.{words}", hint)


def _new_child() -> Child:
    try:
        return Child()
    except OSError as error:
        raise EngineError(
            f"The engine's process cannot be started: {error.strerror or error}.",
            "Close other programs: memory or processes may have run out.",
        ) from error
