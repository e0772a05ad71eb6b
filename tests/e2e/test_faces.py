"""``facellm faces``: what is found in real photos, as text, as JSON and as pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facellm.core.package import ModelPackage
from facellm.models.store import AssetStore
from facellm.vision.crop import face_tile
from facellm.vision.decode import load_photo
from facellm.vision.finder import FaceFinder, FaceModels
from tests.e2e.command import run

Model = tuple[str, str]

pytestmark = pytest.mark.usefixtures("assets")


def test_faces_as_text(photos: Path) -> None:
    done = run("faces", photos / "two.jpg", photos / "none.png")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].endswith("two.jpg: 1024 × 512 px, 2 faces")
    assert [line.split()[0] for line in lines if " px at " in line] == ["A", "B"]
    assert "smile 0." in done.stdout
    assert lines[-1].endswith("none.png: 400 × 300 px, no face")


def test_faces_as_json(photos: Path) -> None:
    done = run("faces", photos / "two.jpg", photos / "broken.jpg", photos / "none.png", "--json")
    assert done.returncode == 1
    two, broken, none = map(json.loads, done.stdout.splitlines())
    assert (two["width"], two["height"], two["image"]) == (1024, 512, str(photos / "two.jpg"))
    a, b = two["faces"]
    assert list(a) == ["label", "box", "score", "points", "facts"]
    assert list(a["points"]) == ["right eye", "left eye", "nose", "mouth", "right ear", "left ear"]
    # Mirrored: the boxes lie mirrored, and the person's own right eye is on the picture's left in both.
    assert a["box"][0] + a["box"][2] == pytest.approx(1024 - b["box"][0], abs=8)
    assert a["points"]["right eye"][0] < a["points"]["left eye"][0]
    assert b["points"]["right eye"][0] < b["points"]["left eye"][0]
    assert a["facts"]["yaw"] == pytest.approx(-b["facts"]["yaw"], abs=5)
    assert list(broken) == ["image", "error"]
    assert none["faces"] == []


def test_save_writes_exactly_what_the_model_would_receive(
    nano: ModelPackage, model: Model, assets: AssetStore, photos: Path, tmp_path: Path
) -> None:
    done = run("faces", photos / "two.jpg", "--json", "--save", tmp_path / "new" / "folder", *model)
    assert done.returncode == 0, done.stderr
    saved = [Path(name) for name in json.loads(done.stdout)["saved"]]
    assert [path.name for path in saved] == ["two-faces.png", "two-A.png", "two-B.png"]
    photo = load_photo(photos / "two.jpg")
    with FaceFinder(FaceModels(assets.path("face-landmarker"), assets.path("yunet"))) as finder:
        for face, path in zip(finder.find(photo), saved[1:], strict=True):
            assert np.array_equal(np.asarray(Image.open(path)), face_tile(photo, face, nano.tile))
    boxed = np.asarray(Image.open(saved[0]))
    assert boxed.shape == photo.pixels.shape
    assert 0.001 < (boxed != photo.pixels).any(2).mean() < 0.1


def test_two_photos_of_one_name_do_not_overwrite_each_other(model: Model, photos: Path, tmp_path: Path) -> None:
    other = tmp_path / "one.png"
    other.write_bytes((photos / "one.png").read_bytes())
    done = run("faces", photos / "one.png", other, "--save", tmp_path / "out", *model)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "one-2-A.png", "one-2-faces.png", "one-A.png", "one-faces.png",
    ]  # fmt: skip


def test_a_folder_that_cannot_be_written_is_a_clear_error(model: Model, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("faces", photos / "one.png", "--save", tmp_path / "file", *model)
    assert done.returncode == 1
    assert "Cannot write into" in done.stderr
    assert "Traceback" not in done.stderr


def test_native_libraries_do_not_chat(photos: Path) -> None:
    done = run("faces", photos / "one.png")
    assert done.stderr.splitlines() == [f"Looking for faces in {photos / 'one.png'}"]


def test_face_models_that_are_not_there_are_a_clear_error(photos: Path, tmp_path: Path) -> None:
    done = run("faces", photos / "one.png", env={"FACELLM_HOME": str(tmp_path)})
    assert done.returncode == 1
    assert "is not on this computer" in done.stderr
    assert "facellm models" in done.stderr
    assert "Traceback" not in done.stderr
