"""FairFace's parquet, sheets and the journal: what is wrong with them is said or counted, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facellm.core.policy import RESEARCH_ENV
from facellm_training.evaluate.items import EvaluationError, Item
from facellm_training.evaluate.journal import Journal, JournalError, Reply
from facellm_training.evaluate.labelled import FairFaceSource, read_fairface_items
from facellm_training.evaluate.sheet import read_sheet, read_sheet_items

SHEET = """
name: Drawn
groups: [light]
questions:
  - {id: glasses, question: "Are there glasses?", options: [yes, no], truth: {1: yes, 0: no}}
  - {id: hat, question: "Which hat?", options: [none, cap, hat], column: headwear, ordered: true}
"""
LABELS = "file,glasses,headwear,light\na.png,1,cap,dim\nb.png,0,,\nc.png,maybe,crown,dim\n"


def parquet(folder: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), folder / "validation-00000-of-00001.parquet")
    return folder


def face(number: int, **labels: Any) -> dict[str, Any]:
    picture = {"bytes": b"%d" % number, "path": f"{number}.jpg"}
    return {"image": picture, "age": number % 9, "gender": number % 2, "race": number % 7} | labels


def test_race_is_asked_behind_its_switch_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = FairFaceSource(parquet(tmp_path, [face(1), face(2)]))
    monkeypatch.delenv(RESEARCH_ENV, raising=False)
    items = read_fairface_items(source).items
    assert [item.id for item in items] == ["1.jpg:age", "1.jpg:gender", "2.jpg:age", "2.jpg:gender"]
    assert items[0].groups == {"age": "3-9", "gender": "female", "race": "Indian"}
    assert items[0].options[items[0].right] == "3-9" and items[0].keys[items[0].right] == "B"
    monkeypatch.setenv(RESEARCH_ENV, "1")
    assert {item.task for item in read_fairface_items(source).items} == {"age", "gender", "race"}


def test_missing_and_unknown_labels_are_counted(tmp_path: Path) -> None:
    rows = [face(1, age=None), face(2, gender=7), face(3)]
    found = read_fairface_items(FairFaceSource(parquet(tmp_path, rows), tasks=("age", "gender")))
    assert found.skipped == {"1.jpg:age": "missing label: age", "2.jpg:gender": "unknown label: gender 7"}
    assert len(found.items) == 4


def test_wrong_folders_columns_and_tasks_say_so(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"holds no validation-\*\.parquet"):
        read_fairface_items(FairFaceSource(tmp_path))
    parquet(tmp_path, [{"image": {"bytes": b"", "path": ""}, "years": 3}])
    with pytest.raises(EvaluationError, match="no column age, gender, race; it has: image, years"):
        read_fairface_items(FairFaceSource(tmp_path))
    (tmp_path / "validation-00000-of-00001.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_fairface_items(FairFaceSource(tmp_path))
    with pytest.raises(EvaluationError, match="no task height"):
        read_fairface_items(FairFaceSource(tmp_path, tasks=("height",)))


def test_a_sheet_is_read_with_its_labels(tmp_path: Path) -> None:
    (tmp_path / "sheet.yaml").write_text(SHEET)
    (tmp_path / "labels.csv").write_text(LABELS)
    found = read_sheet_items(read_sheet(tmp_path / "sheet.yaml"), tmp_path, tmp_path / "labels.csv")
    assert [(item.id, item.keys[item.right]) for item in found.items] == [
        ("a.png:glasses", "yes"), ("a.png:hat", "B"), ("b.png:glasses", "no"),
    ]  # fmt: skip
    assert found.items[2].groups == {"light": "unknown"} and found.ordinal == {"hat"}
    assert found.skipped == {
        "b.png:hat": "missing label: headwear", "c.png:glasses": "unknown label: glasses 'maybe'",
        "c.png:hat": "unknown label: headwear 'crown'",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("headwear", "hats"), "no column hats"),
        (lambda text: text.replace("ordered", "orderd"), "unknown entries: orderd"),
        (lambda text: text.replace("[none, cap, hat]", "[none]"), "options of hat"),
        (lambda text: text.replace("0: no", "0: never"), "truth leads to never"),
        (lambda text: text.replace("Which hat?", "Which race is this person?"), "is not asked of a face"),
        (lambda text: text.replace("name: Drawn", "name: [broken"), "cannot be read"),
        (lambda _: "just words", "no question sheet"),
    ],
)  # fmt: skip
def test_a_wrong_sheet_says_what_is_wrong(tmp_path: Path, change: Callable[[str], str], said: str) -> None:
    (tmp_path / "sheet.yaml").write_text(change(SHEET))
    (tmp_path / "labels.csv").write_text(LABELS)
    with pytest.raises(EvaluationError, match=said):
        read_sheet_items(read_sheet(tmp_path / "sheet.yaml"), tmp_path, tmp_path / "labels.csv")


def item(name: str, prompt: str = "?") -> Item:
    return Item(name, (), prompt, ("A", "B"), ("a", "b"), 0, "t")


def test_answers_belong_to_one_model_and_one_wording(tmp_path: Path) -> None:
    reply = Reply((-0.1, -2.3), "A", 0.5)
    with Journal(tmp_path / "answers.sqlite") as journal:
        one, other = journal.model({"llm": "1", "device": "x"}), journal.model({"llm": "2", "device": "x"})
        journal.add(one, [(item("i"), reply)])
        assert journal.model({"llm": "1", "device": "another machine"}) == one
        assert journal.replies(one, [item("i")]) == {"i": reply}
        assert not journal.replies(one, [item("i", "asked differently")]) and not journal.replies(other, [item("i")])


def test_a_picture_that_was_replaced_is_asked_about_again(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    asked = Item("i", (path,), "?", ("A", "B"), ("a", "b"), 0, "t")
    missing = asked.digest()
    path.write_bytes(b"one")
    first = asked.digest()
    path.write_bytes(b"two")  # the same name and size
    os.utime(path, ns=(1, 1))
    assert len({missing, first, asked.digest()}) == 3
    path.write_bytes(b"one")
    os.utime(path, ns=(2, 2))
    assert asked.digest() == first


_FILL = """
import resource, sys
from pathlib import Path
from facellm_training.evaluate.items import Item
from facellm_training.evaluate.journal import Journal, JournalError, Reply
resource.setrlimit(resource.RLIMIT_FSIZE, (40960, 40960))
with Journal(Path(sys.argv[1])) as journal:
    key = journal.model({})
    for number in range(1000):
        item = Item(str(number), (), "?", ("A", "B"), ("a", "b"), 0, "t")
        try:
            journal.add(key, [(item, Reply((-1.0, -1.0), "x" * 400, 0.1))])
        except JournalError as error:
            print(number, error, error.hint)
            break
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the limit of a file's size is POSIX's")
def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    env = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", _FILL, str(path)], env=env, capture_output=True, text=True, check=True)
    number = int(done.stdout.split()[0])
    assert number > 10 and "could not be written" in done.stdout and "goes on where it was" in done.stdout
    with Journal(path) as journal:
        kept = journal.replies(journal.model({}), [item(str(i)) for i in range(1000)])
        assert set(kept) == {str(i) for i in range(number)}
        journal.add(journal.model({}), [(item(str(number)), Reply(None, "", 0.0))])


def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "answers.sqlite").write_text("my diary" * 100)
    with pytest.raises(JournalError, match="cannot be used as a journal"):
        Journal(tmp_path / "answers.sqlite")
    assert (tmp_path / "answers.sqlite").read_text() == "my diary" * 100
