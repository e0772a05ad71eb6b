"""Answers without probabilities, small groups, the whole benchmark: what a score counts, and what it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facellm.vision.decode import PhotoError
from facellm_training.evaluate.asking import Asked, ModelAnswers
from facellm_training.evaluate.facexbench import Benchmark, read_facexbench
from facellm_training.evaluate.facexbench_report import facexbench_report, facexbench_tables
from facellm_training.evaluate.items import EvaluationError, Item, closed_item, load_picture
from facellm_training.evaluate.journal import JournalError, Reply
from facellm_training.evaluate.labelled import FairFaceSource, read_fairface_items
from facellm_training.evaluate.labelled_report import LEAST_GROUP, for_fitting, labelled_report, labelled_tables
from facellm_training.evaluate.results import Results, write_results
from tests.training.evaluate.drawn_benchmark import file_of, question

SURE, WRONG = (-0.01, -6.0, -6.0, -6.0), (-6.0, -0.01, -6.0, -6.0)


def questions(count: int) -> list[Item]:
    return [
        Item(str(i), (), "?", tuple("ABCD"), tuple("wxyz"), 0, "age", "bias", {"overlap": "yes" if i % 2 else "no"})
        for i in range(count)
    ]


def test_one_silent_answer_is_wrong_and_does_not_empty_the_column() -> None:
    items = questions(8)
    one = {item.id: Reply(SURE, "A", 0.1) for item in items} | {"3": Reply(None, "I cannot", 0.1)}
    never = {item.id: Reply(None, "A", 0.1) for item in items}
    asked = Asked(tuple(items), (ModelAnswers("one", {}, one), ModelAnswers("never", {}, never)), {})
    report = facexbench_report(asked, Benchmark(tuple(items), 1, {}), "zero-shot")
    assert report["constrained"]["overall"] == 7 / 8 and report["without_probabilities"] == 1
    assert report["without_overlap"]["constrained"]["overall"] == 1
    assert report["models"]["never"]["constrained"] is None and report["models"]["never"]["official"]["overall"] == 1
    assert [row["score"] for row in report["comparisons"]] == ["official"]
    text = facexbench_tables(report)[0].markdown()
    assert "one gave no option's probability to 1 questions" in text and "no probabilities |" in text


def faces(count: int) -> list[Item]:
    return [
        closed_item(f"{i}.jpg:hat", (b"",), "Hat?", ("none", "cap", "hat", "scarf"), 0, "hat",
                    {"light": "dim" if i < 3 else "bright" if i < 60 else "unknown", "all": "one"})
        for i in range(count)
    ]  # fmt: skip


def test_calibration_leaves_out_and_counts_what_has_no_probability() -> None:
    items = faces(150)
    replies = {item.id: Reply(SURE if i % 4 else WRONG, None, 0.1) for i, item in enumerate(items)}
    whole = labelled_report(Asked(tuple(items), (ModelAnswers("m", {}, replies),), {}), frozenset())
    silent = replies | {items[0].id: Reply(None, "B", 0.1)}
    report = labelled_report(Asked(tuple(items), (ModelAnswers("m", {}, silent),), {}), frozenset())
    assert report["without_probabilities"] == 1 and report["accuracy"] == whole["accuracy"]
    assert report["ece"]["hat"] == pytest.approx(whole["ece"]["hat"], abs=0.01)
    assert any("m: 1 answers without probabilities are left out" in table.note for table in labelled_tables(report))


def test_both_reliability_curves_are_of_the_pictures_that_nothing_was_fitted_on() -> None:
    items = faces(150)
    replies = {item.id: Reply(SURE if i % 4 else WRONG, None, 0.1) for i, item in enumerate(items)}
    report = labelled_report(Asked(tuple(items), (ModelAnswers("m", {}, replies),), {}), frozenset())
    rest = sum(not for_fitting(item) for item in items)
    curves = report["reliability"]["hat"]
    assert {name: sum(row[2] for row in rows) for name, rows in curves.items()} == {
        "as it says": rest, "with temperature": rest,
    }  # fmt: skip


def test_small_and_unknown_groups_make_no_gap() -> None:
    items = faces(120)  # 3 dim, 57 bright, 60 unknown
    replies = {item.id: Reply(SURE if i >= 3 else WRONG, None, 0.1) for i, item in enumerate(items)}
    report = labelled_report(Asked(tuple(items), (ModelAnswers("m", {}, replies),), {}), frozenset())
    group = report["groups"]["hat by light"]
    assert group["n"] == {"bright": 57, "dim": 3, "unknown": 60} and group["n"]["dim"] < LEAST_GROUP
    assert group["accuracy"]["dim"] == 0 and group["gap"] is None and report["worst_gap"] is None
    json.dumps(report, allow_nan=False)


def test_the_whole_benchmark_is_known_as_such(tmp_path: Path) -> None:
    for number in range(48):
        count = 5000 // 48 + (number < 5000 % 48)
        rows = [question(["a.png"], "?", ["w", "x", "y", "z"], "A") for _ in range(count)]
        found = file_of("bias_fairness", "age", "fairface" if number < 6 else "utkface", "single", rows)
        (tmp_path / f"{number}.json").write_text(json.dumps(found))
    benchmark = read_facexbench(tmp_path)
    assert benchmark.files == 48 and len(benchmark.items) == 5000
    replies = {item.id: Reply(SURE, "A", 0.1) for item in benchmark.items}
    asked = Asked(benchmark.items, (ModelAnswers("m", {}, replies),), {})
    report = facexbench_report(asked, benchmark, "zero-shot")
    assert report["complete"] and report["n"] == 5000 and report["official"]["overall"] == 1
    assert report["without_overlap"]["n"] == 5000 - sum(5000 // 48 + (n < 5000 % 48) for n in range(6))
    part = facexbench_report(Asked(benchmark.items[1:], asked.models, {}), benchmark, "zero-shot")
    assert not part["complete"] and "4999 of 5000" in facexbench_tables(part)[0].note


@pytest.mark.parametrize("image", [None, {"bytes": None, "path": "1.jpg"}, {"bytes": b"", "path": None}])
def test_a_row_without_a_picture_is_a_picture_that_cannot_be_read(tmp_path: Path, image: Any) -> None:
    whole = {"image": {"bytes": b"x", "path": "0.jpg"}, "age": 1, "gender": 0, "race": 0}
    rows = pa.Table.from_pylist([whole, whole | {"image": image}])
    pq.write_table(rows, tmp_path / "validation-0.parquet")
    items = read_fairface_items(FairFaceSource(tmp_path, tasks=("age",))).items
    assert len(items) == 2
    with pytest.raises(PhotoError):
        load_picture(items[1].pictures[0])


def test_what_a_full_disk_took_of_a_report_is_taken_away(tmp_path: Path) -> None:
    items = faces(3)
    asked = Asked(tuple(items), (ModelAnswers("m", {}, {item.id: Reply(SURE, None, 0.1) for item in items}),), {})
    report = labelled_report(asked, frozenset())
    (tmp_path / "report.md").mkdir()  # cannot be replaced by a file
    with pytest.raises(JournalError):
        write_results(Results("Hats", asked, report, labelled_tables(report), [], {}), tmp_path)
    assert not list(tmp_path.glob("*.part"))


def test_a_card_that_is_full_or_gone_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from facellm_training.evaluate.transformers_backend import TransformersBackend
    from tests.converters import checkpoints

    checkpoints.internvl(tmp_path / "checkpoint")
    backend = TransformersBackend(tmp_path / "checkpoint", "cpu")
    asked = [closed_item("1", (), "Hat?", ("cap", "hat"), 0, "hat", {})]
    for error, said in (
        (torch.OutOfMemoryError("CUDA out of memory"), "ran out with a single question: there is no smaller batch"),
        (RuntimeError("CUDA error: unspecified launch failure\nmore"), "does not answer any more: CUDA error"),
    ):

        def fail(*_: object, error: Exception = error) -> Reply:
            raise error

        monkeypatch.setattr(backend, "_one", fail)
        with pytest.raises(EvaluationError, match=said) as found:
            backend.answer([np.zeros((8, 8, 3), np.uint8)], asked)
        assert "All earlier answers are kept" in found.value.hint
    backend.close()
