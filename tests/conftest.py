"""What tests share: the project, data that may be absent, a real photo, the real embedded model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from facellm.core.package import ModelPackage
    from facellm.models.store import AssetStore

ROOT = Path(__file__).resolve().parents[1]


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
    from facellm.models.nano.build import build_nano, nano_is_current
    from facellm.models.packages import find_package

    if not nano_is_current(assets):
        build_nano(assets)
    return find_package("nano", assets)


@pytest.fixture(autouse=True)
def no_thread_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that leaves a thread of ours running fails and names it."""
    before = set(threading.enumerate())
    yield
    left = [t for t in threading.enumerate() if t not in before and not t.daemon and t.is_alive()]
    for thread in left:
        thread.join(5)
    names = [thread.name for thread in left if thread.is_alive()]
    assert not names, f"threads left behind: {names}"
