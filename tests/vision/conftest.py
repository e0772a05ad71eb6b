"""The real models, the real finder, and pictures whose faces are known."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from facellm.core.faces import RgbImage
from facellm.vision.finder import FaceFinder, FaceModels

if TYPE_CHECKING:
    from benchmarks.scenes import Portrait
    from facellm.models.store import AssetStore


@pytest.fixture(scope="session")
def models(assets: AssetStore) -> FaceModels:
    return FaceModels(assets.path("face-landmarker"), assets.path("yunet"))


@pytest.fixture(scope="session")
def finder(models: FaceModels) -> Iterator[FaceFinder]:
    with FaceFinder(models) as finder:
        yield finder


@pytest.fixture(scope="session")
def person() -> RgbImage:
    """scikit-image's astronaut: one smiling face, turned slightly, about 93 px wide at (224, 120)."""
    from skimage import data

    return np.asarray(data.astronaut())


@pytest.fixture(scope="session")
def portraits(shared_data: Path, models: FaceModels) -> list[Portrait]:
    from benchmarks.scenes import read_portraits

    return read_portraits(shared_data / "portraits" / "synthetic", models.landmarker)


@pytest.fixture(scope="session")
def child_env(project_root: Path) -> dict[str, str]:
    """The environment of a child process that imports the package, installed or not."""
    return {**os.environ, "PYTHONPATH": str(project_root / "desktop")}
