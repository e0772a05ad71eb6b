"""Small photos, a model that is only headers, and the child process that answers in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import scripted_engine
from tests.models.test_packages import write_pair


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with light.png, dark.png, later.png (light, too) and broken.png."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, grey in (("light", 200), ("dark", 10), ("later", 220)):
        Image.fromarray(np.full((40, 60, 3), grey, np.uint8)).save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_pair(tmp_path / "model", 32))


@pytest.fixture
def loads(tmp_path: Path) -> Path:
    """Gets a line for each time that a model is loaded."""
    return tmp_path / "loads.txt"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, loads: Path) -> Callable[..., None]:
    """``engine(…)``: children are scripted ones from now on; see ``tests.scripted_engine``."""

    def script(**options: Any) -> None:
        command = scripted_engine.child_command(loads, **options)
        monkeypatch.setattr("facellm.engine.process.child_command", lambda: command)

    return script
