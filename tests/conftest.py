"""What tests share: the project, data that may be absent, a real photo, the real embedded model."""

from __future__ import annotations

import gc
import signal
import threading
import time
import traceback
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from facellm.core.package import ModelPackage
    from facellm.models.store import AssetStore

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def _hears_interrupts() -> None:
    """A shell starts what it sends to the background with Ctrl-C ignored, which children inherit."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def project_root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Pictures that are not part of the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared data are not on this machine (../shared/data)")
    return folder


@pytest.fixture(scope="session")
def astronaut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real photo with one face, 512×512 PNG (NASA, public domain, carried by scikit-image)."""
    from PIL import Image
    from skimage import data

    path = tmp_path_factory.mktemp("photos") / "astronaut.png"
    Image.fromarray(data.astronaut()).save(path)
    return path


@pytest.fixture(scope="session")
def assets() -> AssetStore:
    """The user's asset store, the face models in it."""
    from facellm.models.store import AssetStore

    store = AssetStore()
    for name in ("face-landmarker", "yunet"):
        store.ensure(name)
    return store


@pytest.fixture(scope="session")
def nano(assets: AssetStore) -> ModelPackage:
    """The embedded model, as ``python3 run.py`` builds it."""
    from facellm.models.nano.build import build_nano
    from facellm.models.nano.pair import nano_is_current
    from facellm.models.packages import find_package

    if not nano_is_current(assets):
        build_nano(assets)
    return find_package("nano", assets)


#: Where each thread was started, so that one left behind can be found.
_STARTED: weakref.WeakKeyDictionary[threading.Thread, str] = weakref.WeakKeyDictionary()


@pytest.fixture(scope="session", autouse=True)
def nothing_outlives_the_tests() -> Iterator[None]:
    """Remembers where threads start; when all is closed, no engine may be left: neither its threads nor its process."""
    start = threading.Thread.start

    def remembering(thread: threading.Thread) -> None:
        _STARTED[thread] = "".join(traceback.format_list(traceback.extract_stack(limit=7)[:-1]))
        start(thread)

    threading.Thread.start = remembering  # type: ignore[method-assign]
    yield
    threading.Thread.start = start  # type: ignore[method-assign]
    gc.collect()
    engines = [thread for thread in threading.enumerate() if thread.name.startswith("facellm-engine")]
    assert not _still_running(engines), f"engines left behind: {_describe(engines)}"
    children = [
        child for child in psutil.Process().children(recursive=True) if "resource_tracker" not in _command(child)
    ]
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive, f"processes left behind: {[_command(child) for child in alive]}"


@pytest.fixture(autouse=True)
def no_thread_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that leaves a thread of ours running fails and says where it was started.

    An engine's two readers live as long as its client, which tests may share: those are looked at in the end.
    """
    before = set(threading.enumerate())
    yield
    if request.node.get_closest_marker("keeps_threads"):
        return
    new = [thread for thread in threading.enumerate() if thread not in before]
    left = _still_running([thread for thread in new if not thread.daemon or thread.name.startswith("facellm-")])
    left = [thread for thread in left if not thread.name.startswith("facellm-engine")]
    assert not left, f"threads left behind: {_describe(left)}"


def _still_running(threads: list[threading.Thread]) -> list[threading.Thread]:
    """Those that do not end within 5 s."""
    until = time.monotonic() + 5
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return [thread for thread in threads if thread.is_alive()]


def _describe(threads: list[threading.Thread]) -> str:
    return "\n".join(f"{thread.name}, started at:\n{_STARTED.get(thread, 'unknown')}" for thread in threads)


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
