"""The real finder and a real photo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from facellm.core.faces import Photo
from facellm.models.store import AssetStore
from facellm.vision.decode import load_photo
from facellm.vision.finder import FaceFinder, FaceModels


@pytest.fixture(scope="module")
def finder(assets: AssetStore) -> Iterator[FaceFinder]:
    with FaceFinder(FaceModels(assets.path("face-landmarker"), assets.path("yunet"))) as finder:
        yield finder


@pytest.fixture(scope="module")
def portrait(astronaut: Path) -> Photo:
    """One frontal face, smiling, without glasses."""
    return load_photo(astronaut)
