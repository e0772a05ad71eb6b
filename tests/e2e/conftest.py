"""Real photos, and the options that choose the nano of the other tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from facellm.core.package import ModelPackage


@pytest.fixture(scope="session")
def model(nano: ModelPackage) -> tuple[str, str]:
    return "--model", str(nano.llm.parent)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one.png (one face), two.jpg (two), none.png (a wall), broken.jpg (half a file)."""
    folder = tmp_path_factory.mktemp("photos")
    pixels = astronaut()  # type: ignore[no-untyped-call]
    Image.fromarray(pixels).save(folder / "one.png")
    Image.fromarray(np.hstack([pixels, pixels[:, ::-1]])).save(folder / "two.jpg", quality=92)
    wall = np.random.default_rng(0).normal(150, 6, (300, 400, 1)).clip(0, 255).astype(np.uint8)
    Image.fromarray(wall.repeat(3, 2)).save(folder / "none.png")
    whole = (folder / "two.jpg").read_bytes()
    (folder / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    return folder
