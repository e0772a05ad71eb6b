"""A running file server, and stores of one small asset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from facellm.models import download
from facellm.models.manifest import Source
from facellm.models.store import AssetStore
from tests.models.file_server import PAYLOAD, FileServer, asset_from


@pytest.fixture
def server() -> Iterator[FileServer]:
    running = FileServer()
    thread = Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    yield running
    running.go_on.set()
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture(autouse=True)
def forget_unreachable_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test found unreachable must not decide another; and no test is to depend on this machine's switches."""
    monkeypatch.setattr(download, "_unreachable", {})
    monkeypatch.delenv("FACELLM_OFFLINE", raising=False)


@pytest.fixture
def store_of(tmp_path: Path) -> Callable[..., AssetStore]:
    """``store_of(source, …)``: a store of one asset, "thing", whose bytes are ``PAYLOAD``."""

    def make(
        *sources: Source, payload: bytes = PAYLOAD, root: Path = tmp_path, bundle: Path = tmp_path / "none"
    ) -> AssetStore:
        return AssetStore(root, {"thing": asset_from(*sources, payload=payload)}, bundle=bundle)

    return make
