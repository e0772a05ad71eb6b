"""Scores, comparisons and calibration against scikit-learn and scipy, and by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from facellm_training.evaluate.asking import Asked, ModelAnswers
from facellm_training.evaluate.compare import compare
from facellm_training.evaluate.items import Item, closed_item
from facellm_training.evaluate.journal import JournalError, Reply
from facellm_training.evaluate.labelled_report import LEAST_GROUP, for_fitting, labelled_report, labelled_tables
from facellm_training.evaluate.metrics import macro_f1, mean_score, reliability
from facellm_training.evaluate.results import Results, write_results

AGES = ("0-2", "3-9", "10-19", "20-29", "30-39")


def test_macro_f1_and_accuracy_are_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 400)
    found = np.where(rng.random(400) < 0.6, truth, rng.integers(0, 5, 400))
    assert macro_f1(truth, found, 5).value == pytest.approx(metrics.f1_score(truth, found, average="macro"))
    assert mean_score((truth == found).astype(float)).value == metrics.accuracy_score(truth, found)


def test_reliability_is_scikit_learns_calibration_curve() -> None:
    calibration = pytest.importorskip("sklearn.calibration")
    rng = np.random.default_rng(1)
    confidence = rng.random(2000)
    right = (rng.random(2000) < confidence).astype(float)
    shares, means = calibration.calibration_curve(right, confidence, n_bins=10)
    found = reliability(confidence, right)
    assert [accuracy for _, accuracy, _ in found] == pytest.approx(list(shares))
    assert [sure for sure, _, _ in found] == pytest.approx(list(means))
    assert sum(number for _, _, number in found) == 2000


def test_mcnemar_is_the_exact_binomial_test() -> None:
    # 30 items both right, 4 only the first, 14 only the second, 12 neither
    first = np.array([1.0] * 30 + [1.0] * 4 + [0.0] * 14 + [0.0] * 12)
    second = np.array([1.0] * 30 + [0.0] * 4 + [1.0] * 14 + [0.0] * 12)
    found = compare("a", "b", first, second)
    assert (found.only_first, found.only_second, found.n) == (4, 14, 60)
    assert found.difference == pytest.approx(10 / 60)
    assert found.p == pytest.approx(2 * binom.cdf(4, 18, 0.5))
    half = 1.96 * np.std(second - first) / math.sqrt(60)
    assert found.low == pytest.approx(found.difference - half, abs=0.02)
    assert found.high == pytest.approx(found.difference + half, abs=0.02)


def test_equal_answers_do_not_differ() -> None:
    same = np.array([1.0, 0.0, 1.0])
    found = compare("a", "b", same, same)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


def faces(count: int) -> list[Item]:
    return [
        closed_item(f"{i}.jpg:age", (b"",), "How old?", AGES, i % 5, "age", {"gender": "female" if i % 3 else "male"})
        for i in range(count)
    ]


def sure_of(index: int, p: float, size: int = len(AGES)) -> Reply:
    rest = math.log((1 - p) / (size - 1))
    return Reply(tuple(math.log(p) if i == index else rest for i in range(size)), None, 0.1)


def test_overconfidence_is_undone_on_pictures_that_the_temperature_was_not_fitted_on() -> None:
    items = faces(600)
    rng = np.random.default_rng(0)
    replies = {item.id: sure_of(item.right if rng.random() < 0.6 else (item.right + 1) % 5, 0.95) for item in items}
    report = labelled_report(Asked(tuple(items), (ModelAnswers("m", {}, replies),), {}), frozenset({"age"}))
    fitted = report["calibration"]
    assert fitted["fitted_on"] == sum(map(for_fitting, items)) and 60 < fitted["fitted_on"] < 180
    assert fitted["temperature"] > 1.5
    assert fitted["ece_before"]["age"] == pytest.approx(0.35, abs=0.06)
    assert fitted["ece_after"]["age"] < 0.1
    assert report["scores"]["age ±1"]["value"] > report["scores"]["age"]["value"]


def test_gaps_models_and_a_table_of_both() -> None:
    items = faces(90)
    good = {item.id: sure_of(item.right, 0.7) for item in items}
    # the second is wrong for every male, by more than one bin
    bad = {
        item.id: sure_of(item.right if item.groups["gender"] == "female" else (item.right + 2) % 5, 0.7)
        for item in items
    }
    asked = Asked(tuple(items), (ModelAnswers("good", {}, good), ModelAnswers("bad", {}, bad)), {})
    report = labelled_report(asked, frozenset({"age"}))
    assert report["n"] == 90 and report["accuracy"]["age"] == 1
    worst = report["models"]["bad"]["worst_gap"]
    assert (worst["of"], worst["best"], worst["worst"], worst["gap"]) == ("age by gender", "female", "male", 1.0)
    assert min(report["groups"]["age by gender"]["n"].values()) >= LEAST_GROUP
    row = next(row for row in report["comparisons"] if row["question"] == "age")
    assert (row["only_first"], row["only_second"]) == (30, 0) and row["p"] < 1e-8
    tables = labelled_tables(report)
    assert "| age | 90 | 20.0 | 100.0 [100.0, 100.0] | 66.7 [" in tables[0].markdown()
    assert all(len(row) == len(table.header) for table in tables for row in table.rows)


def test_results_that_cannot_be_written_say_that_no_answer_is_lost(tmp_path: Path) -> None:
    items = faces(10)
    asked = Asked(tuple(items), (ModelAnswers("m", {}, {item.id: sure_of(item.right, 0.7) for item in items}),), {})
    report = labelled_report(asked, frozenset())
    results = Results("Faces", asked, report, labelled_tables(report), [], {})
    write_results(results, tmp_path)
    assert (tmp_path / "report.html").exists() and "| age | 10 |" in (tmp_path / "report.md").read_text()
    whole = (tmp_path / "report.json").read_bytes()
    (tmp_path / "report.json.part").mkdir()
    with pytest.raises(JournalError, match="cannot be written") as error:
        write_results(results, tmp_path)
    assert "Every answer is kept" in error.value.hint
    assert (tmp_path / "report.json").read_bytes() == whole


def test_free_text_is_scored_where_a_server_gives_no_probabilities() -> None:
    options = ("yes", "no")
    items = [closed_item(f"{i}:smile", (b"",), "Smiling?", options, i % 2, "smile", {}) for i in range(4)]
    texts = ["Yes, broadly.", "No.", "I cannot tell", "yes"]
    replies = {item.id: Reply(None, text, 0.0) for item, text in zip(items, texts, strict=True)}
    report = labelled_report(Asked(tuple(items), (ModelAnswers("m", {}, replies),), {}), frozenset())
    assert report["accuracy"]["smile"] == 0.5
    assert report["ece"] == {"smile": None} and report["calibration"] is None
    assert labelled_tables(report)
