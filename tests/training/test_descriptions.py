"""Descriptions are judged clause by clause; pictures are swapped; the card says what was measured."""

from __future__ import annotations

from random import Random

import numpy as np

from facellm_training.data.labels import TASKS, FaceLabels
from facellm_training.data.questions import open_aspect
from facellm_training.evaluate.card import card
from facellm_training.evaluate.closed import Prediction
from facellm_training.evaluate.descriptions import Tally, clauses
from facellm_training.evaluate.fairface import swap
from facellm_training.evaluate.report import score_tasks


def labels(**names: str) -> FaceLabels:
    return FaceLabels("a.jpg", 0, {task: TASKS[task].index(name) for task, name in names.items()})


def test_a_description_that_was_taught_is_all_true() -> None:
    rng = Random(0)
    tally = Tally()
    for _ in range(100):
        face = FaceLabels("a.jpg", 0, {task: rng.randrange(len(names)) for task, names in TASKS.items()})
        sample = open_aspect("detail", face, rng)
        assert sample is not None
        tally.add(sample.answer, face)
    report = tally.report()
    assert report["facts that agree"]["value"] == 1.0
    assert report["sentences with something invented"] == 0.0
    assert len(report["by task"]) >= 7


def test_false_and_invented_clauses_are_counted() -> None:
    tally = Tally()
    face = labels(glasses="none", age="30-39", gender="female", mouth="teeth")
    tally.add("The face looks 40 to 49 years old and the face looks male. A parrot sits on the shoulder.", face)
    tally.add("The lips are parted and teeth are visible and eyeglasses are worn.", face)
    assert tally.right == {"age": [1.0], "gender": [0.0], "mouth": [1.0], "glasses": [0.0]}
    assert dict(tally.invented) == {"a parrot sits on the shoulder": 1}
    assert (tally.sentences, tally.with_invented) == (3, 1)


def test_and_inside_a_clause_is_not_the_end_of_it() -> None:
    assert clauses("The lips are parted and teeth are visible and there is no smile.") == [
        "the lips are parted and teeth are visible",
        "there is no smile",
    ]


def test_swapping_gives_every_file_another_ones_pixels() -> None:
    pictures = [(str(number), np.full((1, 1, 3), number, np.uint8)) for number in range(4)]
    assert [(file, int(pixels[0, 0, 0])) for file, pixels in swap(iter(pictures))] == [
        ("0", 1), ("1", 2), ("2", 3), ("3", 0),
    ]  # fmt: skip
    assert list(swap(iter([]))) == []


def test_the_card_says_what_was_measured_and_what_was_missed() -> None:
    faces = {str(i): FaceLabels(str(i), 0, {"age": 3, "gender": i % 2, "race": i % 7}) for i in range(40)}
    items = [Prediction(str(i), "gender", i % 2, (0.9, 0.1)) for i in range(40)]
    report = score_tasks(items, faces)
    tally = Tally()
    tally.add("The face looks male.", labels(gender="male"))
    report |= {
        "model": {"runtime": "llama.cpp b1", "device": "CPU", "llm_sha256": "ab", "mmproj_sha256": "cd"},
        "temperature": 1.5, "swapped": score_tasks(items, faces), "descriptions": tally.report(),
        "image stage": {"gender": {"accuracy": 0.963, "n": 884}},
    }  # fmt: skip
    text = card(report)
    assert "| gender | 50.0 [" in text and "| ≥ 96 |" in text
    assert "gender by 46.0 points" in text
    assert "gender by race" in text and "Temperature of the probabilities: 1.5" in text
    assert "gender 96.3 %" in text
