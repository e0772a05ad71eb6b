"""What an earlier run found is taken again only while it is still true."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facellm_training.annotate.files import CannotWrite
from tests.training.teacher_server import TeacherServer

Run = Callable[..., dict[str, Any]]


def test_a_mended_table_and_picture_are_read_again(run: Run, faces: Path, teacher: TeacherServer) -> None:
    table, picture = faces / "labels.csv", faces / "1.jpg"
    labels, whole = table.read_text(), picture.read_bytes()
    table.write_text(labels.replace("0.jpg,0-2", "0.jpg,young"))
    picture.write_bytes(b"torn")
    assert run()["pictures_skipped"] == {"unknown age bin": 1, "unreadable picture": 1}
    table.write_text(labels)
    picture.write_bytes(whole)
    counts = run()
    assert counts["pictures"] == 6 and not counts["pictures_skipped"]
    assert set(teacher.paid.values()) == {1}, "what was answered is not asked again"


def test_a_torn_list_and_lost_copies_are_made_anew(run: Run, teacher: TeacherServer, tmp_path: Path) -> None:
    counts, out = run(), tmp_path / "out"
    (out / "pictures.json").write_text("{")
    assert run(yes=False)["conversations"] == counts["conversations"]
    shutil.rmtree(out / "images")
    assert run(yes=False)["conversations"] == counts["conversations"]
    assert len(list((out / "images").iterdir())) == 6
    assert set(teacher.paid.values()) == {1}


def test_an_out_folder_that_cannot_be_made_is_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(CannotWrite, match="Cannot write") as caught:
        run()
    assert "Choose another out folder" in caught.value.hint
