"""Ctrl+C in the terminal closes the window that was started there, also while nothing moves in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PySide6.QtCore import QTimer

from facellm.ui.interrupt import on_interrupt
from tests.ui.test_start import environment

WINDOW = """
import sys
from PySide6.QtCore import QTimer
import facellm.ui.app as app

make = app.make_application
def told(argv):
    application = make(argv)
    QTimer.singleShot(1500, lambda: print("shown", flush=True))  # from now on no Python runs in its thread
    return application
app.make_application = told
sys.exit(app.run_window(["facellm"]))
"""

posix = pytest.mark.skipif(os.name != "posix", reason="Windows sends Ctrl+C to a whole console only")


@posix
def test_control_c_ends_an_idle_window(tmp_path: Path) -> None:
    env = environment(tmp_path, QT_QPA_PLATFORM="offscreen", FACELLM_OFFLINE="1")
    command = [sys.executable, "-c", WINDOW]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as window:
        assert window.stdout is not None
        assert window.stdout.readline() == "shown\n"
        window.send_signal(signal.SIGINT)
        try:
            _, errors = window.communicate(timeout=20)
        finally:
            window.kill()
    assert window.returncode == 0, errors
    assert "KeyboardInterrupt" not in errors


@posix
def test_it_closes_in_this_thread_and_once_and_leaves_nothing(qtbot) -> None:
    before = signal.getsignal(signal.SIGINT)
    closed: list[int] = []
    with on_interrupt(lambda: closed.append(threading.get_ident())):
        QTimer.singleShot(0, lambda: os.kill(os.getpid(), signal.SIGINT))
        qtbot.waitUntil(lambda: bool(closed), timeout=5000)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL  # a second one ends the process
    assert closed == [threading.get_ident()]
    assert signal.getsignal(signal.SIGINT) is before
    assert not [thread for thread in threading.enumerate() if thread.name == "facellm-interrupt"]


@posix
def test_where_it_is_ignored_it_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with on_interrupt(lambda: None):
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
