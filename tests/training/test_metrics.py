"""Scores are what their definitions say."""

from __future__ import annotations

import numpy as np
import pytest

from facellm_training.evaluate.closed import Prediction
from facellm_training.evaluate.metrics import calibration_error, group_gap, macro_f1, mean_score, with_temperature
from facellm_training.evaluate.report import fit_temperature, markdown, score_tasks


def test_interval_of_a_mean_is_close_to_the_normal_one() -> None:
    values = (np.arange(1000) < 900).astype(float)
    score = mean_score(values)
    assert score.value == 0.9
    half = 1.96 * np.sqrt(0.9 * 0.1 / 1000)
    assert score.low == pytest.approx(0.9 - half, abs=0.005)
    assert score.high == pytest.approx(0.9 + half, abs=0.005)


def test_macro_f1_of_a_known_table() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    found = np.array([0, 0, 1, 1, 1, 0])
    # F1: class 0 = 2·2/(3+3), class 1 = 2·2/(2+3), class 2 = 0
    assert macro_f1(truth, found, 3).value == pytest.approx((4 / 6 + 4 / 5 + 0) / 3)


def test_calibration_error_is_zero_when_confidence_is_honest() -> None:
    confidence = np.full(1000, 0.7)
    right = (np.arange(1000) < 700).astype(float)
    assert calibration_error(confidence, right) == pytest.approx(0, abs=1e-9)
    assert calibration_error(np.full(1000, 0.95), right) == pytest.approx(0.25)


def test_temperature_undoes_overconfidence() -> None:
    rng = np.random.default_rng(0)
    honest = rng.dirichlet([1, 1, 1], 4000)
    truth = np.array([rng.choice(3, p=row) for row in honest])
    sharp = with_temperature(honest, 0.5)
    items = [Prediction(str(i), "smile", int(t), tuple(p)) for i, (t, p) in enumerate(zip(truth, sharp, strict=True))]
    assert fit_temperature(items) == pytest.approx(2.0, abs=0.15)


def test_gap_between_groups() -> None:
    right = np.array([1, 1, 0, 0, 1, 1], float)
    gap = group_gap(right, np.array([0, 0, 0, 0, 1, 1]), ("a", "b", "absent"))
    assert gap["gap"] == 0.5 and gap["accuracy"] == {"a": 0.5, "b": 1.0}


def test_report_names_targets_and_derived_rows() -> None:
    from facellm_training.data.labels import FaceLabels

    labels = {
        str(i): FaceLabels(str(i), 0, {"age": 3, "gender": 0, "race": i % 7, "headwear": i % 3}) for i in range(30)
    }
    age = tuple(0.1 if i != 4 else 0.2 for i in range(9))
    hat = (0.1, 0.6, 0.1, 0.1, 0.1)
    items = [Prediction(str(i), "age", 3, age) for i in range(30)]
    items += [Prediction(str(i), "headwear", i % 3, hat) for i in range(30)]
    report = score_tasks(items, labels)
    assert report["scores"]["age"]["value"] == 0 and report["scores"]["age ±1"]["value"] == 1
    assert report["scores"]["headwear none/any"]["value"] == pytest.approx(2 / 3)
    assert "≥ 60" in markdown(report)
