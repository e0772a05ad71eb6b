"""Pictures, tables, recipes and disks that are wrong: said clearly or counted, and nothing lost."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from facellm_training.annotate import journal
from facellm_training.annotate.files import DiskFull
from facellm_training.annotate.journal import Journal, JournalError
from facellm_training.annotate.pictures import gather, sendable
from facellm_training.annotate.recipe import AnnotateRecipe, Source, changed, read_recipe
from facellm_training.annotate.server import ServerError, address
from facellm_training.annotate.sources import SourceError, ValidationRefused, age_class, read_source
from facellm_training.recipe import RecipeError
from tests.training.annotate.conftest import write_faces
from tests.training.teacher_server import TeacherServer

ROOT = Path(__file__).resolve().parents[3]


def table(folder: Path, *rows: tuple[str, ...]) -> Source:
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return Source("folder", str(folder))


def gathered(source: Source, out: Path) -> tuple[int, dict[str, int]]:
    found = gather(read_source(source), out, source.limit, 448, str(source))
    return len(found.pictures), found.skipped


def test_single_bad_rows_are_counted_skips(faces: Path, tmp_path: Path) -> None:
    (faces / "broken.jpg").write_bytes(b"no picture")
    (faces / "copy.jpg").write_bytes((faces / "0.jpg").read_bytes())
    rows = [
        ("file", "age", "gender"), ("0.jpg", "20-29", "Male"), ("broken.jpg", "20-29", "Male"),
        ("1.jpg", "", "Male"), ("2.jpg", "old", "Male"), ("3.jpg", "20-29", "robot"), ("absent.jpg", "20-29", "Male"),
        ("../secret.jpg", "20-29", "Male"), ("copy.jpg", "20-29", "Male"), ("4.jpg", "34", "f"), ("5.jpg",),
    ]  # fmt: skip
    Image.new("RGB", (9, 9)).save(tmp_path / "secret.jpg")
    assert gathered(table(faces, *rows), tmp_path / "out") == (
        2,
        {
            "unreadable picture": 1, "label missing": 2, "unknown age bin": 1, "unknown gender": 1,
            "picture missing": 1, "outside of the folder": 1, "same picture twice": 1,
        },
    )  # fmt: skip


def test_an_empty_folder_a_missing_table_and_a_wrong_column_are_said(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    with pytest.raises(SourceError, match="does not exist"):
        gathered(Source("folder", str(empty)), tmp_path / "out")
    empty.mkdir()
    with pytest.raises(SourceError, match="no table of labels"):
        gathered(Source("folder", str(empty)), tmp_path / "out")
    with pytest.raises(SourceError, match="has no rows"):
        gathered(table(empty, ("file", "age", "gender")), tmp_path / "out")
    with pytest.raises(SourceError, match="no column age; it has file, years, gender") as caught:
        gathered(table(empty, ("file", "years", "gender"), ("a.jpg", "3", "m")), tmp_path / "out")
    assert "source.columns" in caught.value.hint
    with pytest.raises(SourceError, match=r"No picture can be used .*picture missing: 1"):
        gathered(table(empty, ("file", "age", "gender"), ("a.jpg", "3", "m")), tmp_path / "out")


def test_columns_may_have_other_names(faces: Path, tmp_path: Path) -> None:
    source = table(faces, ("name", "years", "sex"), ("0.jpg", "71", "woman"))
    source = replace(source, columns={"file": "name", "age": "years", "gender": "sex"})
    assert gathered(source, tmp_path / "out") == (1, {})


@pytest.mark.parametrize(
    ("text", "index"),
    [("0-2", 0), ("20–29", 3), ("more than 70", 8), ("70+", 8), ("34", 4), ("2.9", 0), ("121", None), ("old", None)],
)
def test_ages(text: str, index: int | None) -> None:
    assert age_class(text) == index


def picture(colour: int, **save: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (colour, 9, 9)).save(buffer, "JPEG", **save)
    return buffer.getvalue()


def test_metadata_never_leave(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    assert b"taken at home" in picture(1, exif=exif)
    assert b"taken at home" not in sendable(picture(1, exif=exif), 448)
    assert sendable(picture(1), 448) == picture(1)
    with Image.open(io.BytesIO(sendable(picture(1), 16))) as small:
        assert small.size == (16, 16)


def write_parquet(path: Path, ages: list[Any], column: str = "image") -> None:
    info = {"features": {"image": {"_type": "Image"}}}
    rows = [{column: {"bytes": picture(9 * n), "path": f"{n + 1}.jpg"}, "age": age, "gender": 0, "race": 0}
            for n, age in enumerate(ages)]  # fmt: skip
    found = pa.Table.from_pylist(rows)
    if column == "image":
        found = found.replace_schema_metadata({"huggingface": json.dumps({"info": info})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(found, path)


def hub_like(folder: Path, ages: list[Any]) -> Source:
    """A folder laid out as the hub's data set, which ``datasets`` reads by the same call."""
    write_parquet(folder / "0.25/train-0.parquet", ages)
    config = {"configs": [{"config_name": "0.25", "data_files": [{"split": "train", "path": "0.25/train-*"}]}]}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(config)}---\n")
    return Source("hub", str(folder), leave_held_out=False)


def test_the_hubs_layout_is_read_through_datasets(tmp_path: Path) -> None:
    source = hub_like(tmp_path / "hub", [0, 8, 9, None])
    assert gathered(source, tmp_path / "out") == (2, {"unknown age bin": 1, "label missing": 1})
    with pytest.raises(SourceError, match="cannot be read from the hub"):
        gathered(replace(source, config="1.25"), tmp_path / "other")


def test_a_parquet_that_is_not_fairfaces_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no train-\*\.parquet"):
        gathered(Source("parquet", str(tmp_path)), tmp_path / "out")
    write_parquet(tmp_path / "train-0.parquet", [1], column="photo")
    with pytest.raises(SourceError, match="no column 'image'"):
        gathered(Source("parquet", str(tmp_path)), tmp_path / "out")
    (tmp_path / "train-0.parquet").write_bytes(b"PAR1")
    with pytest.raises(SourceError, match="cannot be read"):
        gathered(Source("parquet", str(tmp_path)), tmp_path / "out")


def test_validation_is_refused_unless_forced(shared_data: Path, tmp_path: Path) -> None:
    source = Source("parquet", str(shared_data / "fairface"), split="validation", limit=2)
    with pytest.raises(ValidationRefused, match="FaceXBench") as caught:
        read_source(source)
    assert "--spoil-validation" in caught.value.hint
    rows = read_source(source, spoil_validation=True)
    assert len(gather(rows, tmp_path, 2, 448, "").pictures) == 2


def test_held_out_train_pictures_stay_out(shared_data: Path, tmp_path: Path) -> None:
    rows = read_source(Source("parquet", str(shared_data / "fairface")))
    found = gather(rows, tmp_path, 60, 448, "")
    assert not any(int(item.file.split("/")[1].removesuffix(".jpg")) % 20 == 0 for item in found.pictures)


def test_shipped_recipes_can_be_read() -> None:
    for name in ("fairfacegpt", "fairfacegpt-nano"):
        recipe = read_recipe(ROOT / "training/recipes" / f"{name}.yaml")
        assert recipe.prices.source
        assert recipe.source.split == "train"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: a", "needs out"),
        ("out: [", "not valid YAML"),
        ("out: a\nteacher: {key: sk-secret}", "teacher has no setting key"),
        ("out: a\npace: {tries: many}", "pace.tries is a whole number"),
        ("out: a\npace: {tries: 0}", "must be more than 0"),
        ("out: a\nsource: {split: test}", "source.split is 'test'; it may be train, validation"),
        ("out: a\nquestions: {aspects: [race]}", "questions.aspects is 'race'; it may be"),
        ("out: a\nsource: {columns: {file: f}}", "which column is age, gender"),
        ("out: a\nfilters: {similar: 0}", "filters.similar is above 0 and at most 1"),
        ("out: a\nprices: {budget: -1}", "prices.budget"),
        ("out: a\nprices: 3", "must be a table"),
    ],
)
def test_a_wrong_recipe_says_which_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    assert said in str(caught.value)


def test_pictures_of_an_unknown_folder_are_not_published(recipe_of: Callable[..., AnnotateRecipe], faces: Path) -> None:
    fairface = AnnotateRecipe(Path("out"))
    assert changed(fairface, data=str(faces)).source.publish is False


def test_addresses_show_no_password_and_say_when_nothing_is_encrypted() -> None:
    assert address("https://me:secret@example.org/v1").said() == "https://example.org"
    assert address("http://10.0.0.2:8000/v1").said() == "http://10.0.0.2:8000 (not encrypted)"
    assert address("http://localhost:1/v1").here
    for bad in ("example.org", "ftp://example.org", "http://:80", "http://a:b:c"):
        with pytest.raises(ServerError, match="not valid"):
            address(bad)


def test_a_full_disk_while_writing_says_so_and_leaves_the_old_file(
    run: Callable[..., dict[str, Any]], teacher: TeacherServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        real = os.fsync
        patch.setattr(os, "fsync", lambda handle: full(handle) if teacher.paid else real(handle))
        with pytest.raises(DiskFull, match="disk is full"):
            run()
    assert not list((tmp_path / "out").glob("*.part"))
    assert run(yes=False)["unanswered"] == 0
    assert set(teacher.paid.values()) == {1}


def test_a_full_disk_under_the_journal_loses_nothing(
    run: Callable[..., dict[str, Any]], teacher: TeacherServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's own limit on pages gives the error that a full disk gives."""
    keep = Journal.__init__

    def small(self: Journal, path: Path) -> None:
        keep(self, path)
        self._base.execute("PRAGMA max_page_count=8")

    with monkeypatch.context() as patch:
        patch.setattr(journal.Journal, "__init__", small)
        with pytest.raises(DiskFull, match="journal takes no more"):
            run(pace={"concurrency": 1})
    assert run()["unanswered"] == 0
    assert set(teacher.paid.values()) == {1}


def test_a_damaged_journal_is_not_overwritten(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "out" / "journal.sqlite"
    path.parent.mkdir()
    path.write_bytes(b"not a database, but perhaps what is left of one" * 100)
    before = path.read_bytes()
    with pytest.raises(JournalError, match="cannot be used") as caught:
        run()
    assert "copy" in caught.value.hint
    assert path.read_bytes() == before


def test_a_folder_of_faces_has_every_age(tmp_path: Path) -> None:
    assert gathered(Source("folder", str(write_faces(tmp_path / "nine", 9))), tmp_path / "out") == (9, {})
