"""A folder of labelled pictures, a recipe for it, and the stand-in for a paid service."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

pytest.importorskip("openai", reason="the training packages are not installed (python3 run.py setup training)")

from facellm_training.annotate.recipe import AnnotateRecipe, read_recipe
from facellm_training.annotate.run import annotate
from tests.training.teacher_server import KEY, MODEL, TeacherServer

AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")


def write_faces(folder: Path, count: int) -> Path:
    """``count`` different pictures of noise and their table, every age and gender in turn."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        pixels = rng.integers(0, 255, (7, 7, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(folder / f"{number}.jpg")
        rows.append((f"{number}.jpg", AGES[number % 9], ("Male", "Female")[number % 2]))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "age", "gender"), *rows])
    return folder


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    return write_faces(tmp_path / "faces", 6)


@pytest.fixture
def teacher() -> Iterator[TeacherServer]:
    with TeacherServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)


def settings(faces: Path, url: str, out: Path, **parts: Any) -> dict[str, Any]:
    """A recipe as YAML holds it; ``parts`` change single settings."""
    found: dict[str, Any] = {
        "out": str(out),
        "source": {"kind": "folder", "path": str(faces), "licence": "", "publish": False},
        "teacher": {"model": MODEL, "base_url": url, "key_env": "TEACHER_KEY"},
        "pace": {"concurrency": 4, "per_minute": 60000, "timeout_s": 8.0, "backoff_s": 0.02, "settle_s": 2.0},
        "batches": {"poll_s": 0.02},
        "prices": {"budget": 100.0},
    }
    for part, values in parts.items():
        found[part] = found.get(part, {}) | values if isinstance(values, dict) else values
    return found


@pytest.fixture
def recipe_of(faces: Path, teacher: TeacherServer, tmp_path: Path) -> Callable[..., AnnotateRecipe]:
    """``recipe_of(pace={…})``: a recipe on the folder and the server."""

    def make(out: str = "out", **parts: Any) -> AnnotateRecipe:
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(settings(faces, teacher.url, tmp_path / out, **parts)))
        return read_recipe(path)

    return make


@pytest.fixture
def run(recipe_of: Callable[..., AnnotateRecipe]) -> Callable[..., dict[str, Any]]:
    """``run(pace={…})``: a whole run with consent, quietly; its counts."""

    def go(yes: bool = True, out: str = "out", **parts: Any) -> dict[str, Any]:
        return annotate(recipe_of(out, **parts), lambda _: None, lambda _: None, yes=yes)

    return go
