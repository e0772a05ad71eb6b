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


class Build:
    """One build; ``run`` keeps its thread busy, ``cancel`` comes from another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._process: subprocess.Popen[str] | None = None

    def run(self, emit: Callable[[object], None]) -> None:
        """Build, and emit (stage, share 0..1 of the whole) pairs. Raises ``BuildCancelled``, ``BuildFailed``."""
        with self._lock:
            if self._cancelled:
                raise BuildCancelled("The build was cancelled.")
            self._process = process = _start_child()
        error: BuildFailed | None = None
        with process:
            for line in process.stdout or ():
                message = json.loads(line)
                if "error" in message:
                    error = BuildFailed(message["error"], message["hint"])
                else:
                    emit((message["stage"], message["share"]))
        if self._cancelled:
            raise BuildCancelled("The build was cancelled.")
        if error is not None:
            raise error
        if process.returncode != 0:
            raise BuildFailed(
                f"Building the model ended unexpectedly (exit code {process.returncode}).",
                "Check that 2 GB of memory and 1 GB of disk are free, then try again.",
            )

    def cancel(self) -> None:
        """End the build; returns when the child is gone."""
        with self._lock:
            self._cancelled = True
            process = self._process
        if process is None or process.poll() is not None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> None:
    """The child: fetch what is missing, build, say how far it is."""
    from facellm.models.ensure import FACE_MODELS
    from facellm.models.nano.build import build_nano
    from facellm.models.store import AssetStore

    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        store = AssetStore()
        for name in FACE_MODELS:
            _tell("fetching the face models", 0.0)
            store.ensure(name)
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
