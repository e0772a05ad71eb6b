"""``facellm faces --save``: nothing of the user's is ever overwritten."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facellm.cli.boxed import SaveError
from facellm.cli.saving import Saver
from facellm.core.faces import Face, FaceBox, Facts, Photo

PHOTO = Photo("photo", np.full((80, 100, 3), 90, np.uint8))
FACE = Face("A", FaceBox(20, 20, 30, 30, 0.9), Facts(30, 0.5, 0.2, 10), np.full((6, 2), np.nan, np.float32))


def save(folder: Path, *photos: str) -> list[str]:
    saver = Saver(folder, 32)
    return [file.name for photo in photos for file in saver.save(Path(photo), PHOTO, [FACE])]


def test_files_of_an_earlier_run_stay_as_they_are(tmp_path: Path) -> None:
    assert save(tmp_path, "one.jpg") == ["one-faces.png", "one-A.png"]
    before = (tmp_path / "one-A.png").read_bytes()
    (tmp_path / "one-A.png").write_bytes(before + b"touched up")
    assert save(tmp_path, "one.jpg") == ["one-2-faces.png", "one-2-A.png"]
    assert (tmp_path / "one-A.png").read_bytes() == before + b"touched up"
    assert (tmp_path / "one-2-A.png").read_bytes() == before


def test_a_second_photo_is_not_overwritten_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "me-a.png").write_bytes(b"the second photo")
    assert save(tmp_path, "me.jpg", "me-a.png") == ["me-2-faces.png", "me-2-A.png", "me-a-faces.png", "me-a-A.png"]
    assert (tmp_path / "me-a.png").read_bytes() == b"the second photo"


def test_names_that_other_systems_take_for_one_are_told_apart(tmp_path: Path) -> None:
    names = save(tmp_path, "IMG.jpg", "img.png", "Zo\u00e9.jpg", "Zoe\u0301.png", "img-2.jpg")
    stems = [name.removesuffix("-faces.png") for name in names if name.endswith("-faces.png")]
    assert stems == ["IMG", "img-2", "Zo\u00e9", "Zoe\u0301-2", "img-2-2"]


def test_a_file_that_appears_meanwhile_is_an_error_and_stays(tmp_path: Path) -> None:
    saver = Saver(tmp_path, 32)
    saver.save(Path("one.jpg"), PHOTO, [])
    (tmp_path / "two-faces.png").write_bytes(b"mine")
    with pytest.raises(SaveError, match="exists"):
        saver.save(Path("two.jpg"), PHOTO, [])
    assert (tmp_path / "two-faces.png").read_bytes() == b"mine"


def test_a_full_disk_leaves_no_half_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_image: Image.Image, out, _format: str) -> None:
        out.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(SaveError, match="No space left"):
        save(tmp_path, "one.jpg")
    assert list(tmp_path.iterdir()) == []
