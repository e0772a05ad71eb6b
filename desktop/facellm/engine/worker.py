"""The child process: owns llama.cpp, computes one request at a time, and listens for "stop" meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, BinaryIO, cast

from facellm.core.ask import Answer, Timings
from facellm.core.errors import FaceLLMError
from facellm.engine import wire
from facellm.engine.errors import BadModel, EngineError, OutOfMemory, Stopped
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


#: From Linux's ``sys/prctl.h``.
_PR_SET_DUMPABLE = 4
#: SEM_FAILCRITICALERRORS, SEM_NOGPFAULTERRORBOX (which ends crash reports too) and SEM_NOOPENFILEERRORBOX.
_NO_ERROR_BOXES = 0x1 | 0x2 | 0x8000


def main() -> None:
    """Entry point of the child. Commands come on standard input, replies go to standard output."""
    with contextlib.suppress(ValueError, OSError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the application's to handle
    commands, replies = _take_pipes()
    faulthandler.enable()
    _keep_no_dumps()
    _serve(Inbox(commands), replies)


def _keep_no_dumps() -> None:
    """A crash leaves no image of this process on the disk: photo, question and answer are in it.

    A limit of 0 alone does not keep crash reporters away that the kernel pipes the image to.
    """
    if sys.platform == "win32":
        failures, faults, files = (
            0x1,
            0x2,
            0x8000,
        )  # SEM_FAILCRITICALERRORS, SEM_NOGPFAULTERRORBOX, SEM_NOOPENFILEERRORBOX
        ctypes.windll.kernel32.SetErrorMode(failures | faults | files)
        return
    import resource

    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Move the two pipes out of the way: what a native library prints must not land among the replies."""
    commands, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return commands, replies


class Inbox:
    """Commands in order; a stop is not queued but acts at once on the request that runs."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._queue: SimpleQueue[Command] = SimpleQueue()
        self._lock = Lock()
        self._running = 0
        self._stopped = 0
        self.stop = Event()
        Thread(target=self._listen, name="inbox", daemon=True).start()

    def next(self) -> Command:
        return self._queue.get()

    def begin(self, number: int) -> None:
        """Mark a request as running; a stop that overtook it counts."""
        with self._lock:
            self._running = number
            self.stop.clear()
            if number and number <= self._stopped:
                self.stop.set()

    def _listen(self) -> None:
        while True:
            try:
                command = cast(Command, wire.receive(self._pipe))
            except (EOFError, OSError):
                # The application is gone or done with us: nobody waits for an answer, nothing needs saving,
                # and the main thread may be deep in native code.
                os._exit(0)
            except wire.Unreadable as error:
                # Were this thread merely to end, the application's end would go unnoticed, and the model stay loaded.
                sys.stderr.write(f"Error: {error}\n")
                sys.stderr.flush()
                os._exit(1)
            if not isinstance(command, StopCommand):
                self._queue.put(command)
                continue
            with self._lock:
                self._stopped = max(self._stopped, command.number)
                if self._running and self._running <= self._stopped:
                    self.stop.set()


def _serve(inbox: Inbox, pipe: BinaryIO) -> None:
    runtime: Runtime | None = None
    while True:
        command = inbox.next()
        number = 0 if isinstance(command, LoadCommand) else command.number
        inbox.begin(number)
        try:
            if isinstance(command, LoadCommand):
                runtime = _load(command, inbox.stop, pipe)
                wire.send(pipe, Reply(0, runtime.info))
            elif runtime is None:
                raise EngineError("The engine was asked before a model was loaded.")
            else:
                _answer(runtime, command, pipe)
        except Stopped:
            wire.send(pipe, Reply(number, Done(Answer("", Timings(), "stopped"), "")))
        except FaceLLMError as error:
            wire.send(pipe, Reply(number, Failed(error)))
        except MemoryError:
            wire.send(pipe, Reply(number, Failed(OutOfMemory("Memory ran out.", "Close other programs."))))
        except BrokenPipeError:
            os._exit(0)
        except Exception as error:  # noqa: BLE001 - outermost boundary of the process: say it rather than die mute
            sys.excepthook(type(error), error, error.__traceback__)
            failure = EngineError(f"The engine failed: {type(error).__name__}: {error}", "Please report this.")
            wire.send(pipe, Reply(number, Failed(failure)))


def _load(command: LoadCommand, stop: Event, pipe: BinaryIO) -> Runtime:
    try:
        from facellm.engine.llama_runtime import Runtime
    except (ImportError, OSError, RuntimeError) as error:
        raise BadModel(f"llama.cpp cannot be loaded: {error}", "Run the set-up again.") from error
    return Runtime(command.package, command.options, stop, lambda event: wire.send(pipe, Reply(0, event)))


def _answer(runtime: Runtime, command: Command, pipe: BinaryIO) -> None:
    if isinstance(command, AskCommand):
        for event in runtime.ask(command.request):
            wire.send(pipe, Reply(command.number, event))
    elif isinstance(command, ChooseCommand):
        answers = runtime.choose(command.images, command.questions)
        wire.send(pipe, Reply(command.number, Chosen(answers)))
