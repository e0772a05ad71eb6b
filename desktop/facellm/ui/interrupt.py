"""Ctrl+C in the terminal closes the window that was started there.

Python's own handler runs between two of Python's instructions, and an idle window executes none. The number of the
signal is therefore also written to a pipe, and a thread that waits for it wakes the window: no timer that looks again
and again, and no socket, which on Windows would be the only thing that Qt itself can watch.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from PySide6.QtCore import QObject, Qt, Signal


class _Bell(QObject):
    rung = Signal()


@contextmanager
def on_interrupt(close: Callable[[], object]) -> Iterator[None]:
    """``close`` is called in the GUI thread, this one, at the first Ctrl+C; a second one ends the process at once.

    Where Ctrl+C is ignored already, as in the background of a shell, it stays so.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        yield
        return
    bell = _Bell()
    bell.rung.connect(close, Qt.ConnectionType.QueuedConnection)
    reading, writing = os.pipe()
    if os.name == "posix":  # demanded there; a handler must never wait
        os.set_blocking(writing, False)
    thread = threading.Thread(target=_listen, args=(reading, bell), name="facellm-interrupt", daemon=True)
    signal.signal(signal.SIGINT, _once)
    woken = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(woken)
        signal.signal(signal.SIGINT, before)
        os.close(writing)
        thread.join()
        os.close(reading)


def _once(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _listen(pipe: int, bell: _Bell) -> None:
    """Until the pipe is closed."""
    while numbers := os.read(pipe, 64):
        if signal.SIGINT in numbers:
            bell.rung.emit()
