"""A self-test that was passed is not done again, unless something has changed that it depends on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from facellm.engine.canary import REMEMBERED, Passed


@pytest.fixture
def mmproj(tmp_path) -> Path:
    path = tmp_path / "eyes.gguf"
    path.write_bytes(b"GGUF")
    return path


def test_it_is_known_only_for_what_it_was_passed_for(mmproj, tmp_path) -> None:
    notes = tmp_path / "notes"
    assert not Passed(notes, mmproj, "1.0", "CPU").known()
    Passed(notes, mmproj, "1.0", "CPU").remember()
    assert Passed(notes, mmproj, "1.0", "CPU").known()
    assert not Passed(notes, mmproj, "1.1", "CPU").known()
    assert not Passed(notes, mmproj, "1.0", "GPU").known()
    os.utime(mmproj, ns=(1, 1))
    assert not Passed(notes, mmproj, "1.0", "CPU").known()


def test_notes_do_not_pile_up(mmproj, tmp_path) -> None:
    for number in range(REMEMBERED + 20):
        Passed(tmp_path / "notes", mmproj, str(number), "CPU").remember()
    assert len(list((tmp_path / "notes").iterdir())) == REMEMBERED
    assert Passed(tmp_path / "notes", mmproj, str(REMEMBERED + 19), "CPU").known()


def test_without_a_place_for_notes_it_is_done_again(mmproj, tmp_path) -> None:
    (tmp_path / "notes").write_text("a file")
    Passed(tmp_path / "notes", mmproj, "1.0", "CPU").remember()
    assert not Passed(tmp_path / "notes", mmproj, "1.0", "CPU").known()
