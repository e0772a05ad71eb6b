"""Building the embedded model from the window, in a process of its own that can be cancelled and frees its memory.

The child writes one JSON object a line; it ends when its standard input is closed, so it never outlives the window.
"""

from __future__ import annotations

import _thread
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from facellm.core.errors import FaceLLMError

#: First argument with which a frozen application is started again as the building child.
BUILD_FLAG = "--facellm-build-child"
#: Seconds that the child gets to delete its half-written files before it is killed.
GRACE_S = 3.0

_ROOT = str(Path(__file__).resolve().parents[2])
_START = (
    "import sys; root = sys.argv[1]; root in sys.path or sys.path.insert(0, root); "
    "from facellm.ui.build import main; main()"
)


class BuildCancelled(FaceLLMError):
    """The user ended the build."""


class BuildFailed(FaceLLMError):
    """The build could not be finished."""


class BuildNeeded(FaceLLMError):
    """What a build brings is not on this computer."""


class ModelDamaged(BuildNeeded):
    """It is on this computer, and of no use; a build puts it right."""


class Build:
    """One build; ``run`` keeps its thread busy, ``cancel`` comes from another, at any time, and does not wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._killer: threading.Timer | None = None

    @property
    def cancelled(self) -> bool:
        """Whether ``cancel`` was called."""
        return self._cancelled.is_set()

    def run(self, emit: Callable[[object], None]) -> None:
        """Build, and emit (stage, share 0..1 of the whole) pairs; returns when the child is gone.

        Raises ``BuildCancelled``, ``BuildFailed``.
        """
        if self._cancelled.is_set():
            raise BuildCancelled("The build was cancelled.")
        process = _start_child()
        with self._lock:
            self._process = process
            if self._cancelled.is_set():  # while the child was being started
                self._end(process)
        try:
            with process:
                error = _listen(process, emit)
        finally:
            with self._lock:
                self._process = None
                if self._killer is not None:
                    self._killer.cancel()
        if self._cancelled.is_set():
            raise BuildCancelled("The build was cancelled.")
        if error is not None:
            raise error
        if process.returncode != 0:
            raise BuildFailed(
                f"Building the model ended unexpectedly (exit code {process.returncode}).",
                "Check that 2 GB of memory and 1 GB of disk are free, then try again.",
            )

    def cancel(self) -> None:
        """Have the build end: ``run`` raises ``BuildCancelled`` as soon as the child is gone."""
        with self._lock:
            if self._process is not None and not self._cancelled.is_set():
                self._end(self._process)
            self._cancelled.set()

    def _end(self, process: subprocess.Popen[str]) -> None:
        """The child ends when its input closes. ``run`` is reading from it: if it does not end, a timer kills it."""
        if process.stdin is not None:
            process.stdin.close()
        self._killer = threading.Timer(GRACE_S, process.kill)
        self._killer.daemon = True
        self._killer.start()


def _listen(process: subprocess.Popen[str], emit: Callable[[object], None]) -> BuildFailed | None:
    """Pass on what the child says until it ends; the error that it said."""
    error = None
    for line in process.stdout or ():
        message = json.loads(line)
        if "error" in message:
            error = BuildFailed(message["error"], message["hint"])
        else:
            emit((message["stage"], message["share"]))
    return error


def main() -> None:
    """The child: fetch and build what is missing, damaged or out of date, and say how far it is."""
    from facellm.models.ensure import FACE_MODELS
    from facellm.models.nano.build import build_nano
    from facellm.models.nano.pair import NAME, damaged_files, nano_is_current
    from facellm.models.packages import find_package
    from facellm.models.store import AssetStore

    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        store = AssetStore()
        for name in FACE_MODELS:
            _tell("fetching the face models", 0.0)
            store.ensure(name)
        if not nano_is_current(store) or damaged_files(find_package(NAME, store).llm.parent) != []:
            build_nano(store, _tell)
    except FaceLLMError as error:
        _write({"error": str(error), "hint": error.hint})
    except KeyboardInterrupt:
        sys.exit(1)


def _start_child() -> subprocess.Popen[str]:
    frozen = getattr(sys, "frozen", False)
    command = [sys.executable, BUILD_FLAG] if frozen else [sys.executable, "-P", "-c", _START, _ROOT]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )  # fmt: skip


def _end_with_parent() -> None:
    """When standard input is closed: an interrupt, so that half-written files are deleted on the way out."""
    sys.stdin.read()
    _thread.interrupt_main()


def _tell(stage: str, share: float) -> None:
    _write({"stage": stage, "share": share})


def _write(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
