"""Questions made from labels: right, varied, and never answerable without the picture."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from random import Random

import pytest

from facellm_training.data import wording
from facellm_training.data.compare import comparisons, older
from facellm_training.data.labels import TASKS, FaceLabels, attribute_classes, held_out, measured_classes
from facellm_training.data.questions import PLAIN, boost_of, closed, plain_questions, questions_for, yes_no


def face(rng: Random, file: str = "train/1.jpg") -> FaceLabels:
    """A face with every label, drawn evenly."""
    return FaceLabels(file, 0, {task: rng.randrange(len(names)) for task, names in TASKS.items()})


def test_the_right_letter_stands_before_the_right_option() -> None:
    rng = Random(0)
    for _ in range(400):
        labels = face(rng)
        for task in wording.ASK:
            sample = closed(task, labels, rng)
            options = dict(line.split(") ", 1) for line in sample.text.splitlines()[1:])
            right = wording.option_text(task, labels.classes[task])
            if right in options.values():
                assert options[sample.answer] == right
            else:
                assert options[sample.answer] == "None of the above"


@pytest.mark.parametrize("task", sorted(wording.ASK))
def test_no_letter_gives_an_answer_away(task: str) -> None:
    """Over evenly drawn faces each letter is right about as often as its share of the options."""
    rng = Random(1)
    letters: dict[int, Counter[str]] = defaultdict(Counter)
    for _ in range(1500):
        sample = closed(task, face(rng), rng)
        letters[sample.text.count(") ")][sample.answer] += 1
    for size, counts in letters.items():
        assert max(counts.values()) / counts.total() < 1.45 / size + 0.06, (size, counts)


def test_the_question_text_does_not_depend_on_the_answer() -> None:
    """The same seed asks the same of a smiling and an unsmiling face."""
    for seed in range(50):
        texts = set()
        for smile in range(3):
            labels = FaceLabels("a", 0, {"smile": smile})
            rng = Random(seed)
            rng.random()
            texts.add(yes_no("smile", labels, Random(seed)).text)
        assert len(texts) == 1


def test_every_picture_gets_several_forms() -> None:
    rng = Random(2)
    forms = Counter(sample.form for _ in range(200) for sample in questions_for(face(rng), rng, 6))
    assert set(forms) == {"letters", "yes/no", "short", "aspect", "json", "unseen"}
    assert forms["letters"] > 0.3 * forms.total()


def test_open_answers_never_speak_of_race() -> None:
    rng = Random(3)
    words = [name.lower() for name in TASKS["race"] if name not in ("Black", "White")] + ["race", "ethnic", "asian"]
    for _ in range(500):
        for sample in questions_for(face(rng), rng, 8):
            if sample.form != "letters":
                assert not any(word in sample.answer.lower() for word in words), sample


def test_json_answers_parse_and_hold_the_keys_asked_for() -> None:
    rng = Random(4)
    seen = 0
    for _ in range(300):
        for sample in questions_for(face(rng), rng, 8):
            if sample.form == "json":
                keys = sample.text.removeprefix("Answer as JSON with the keys ").rstrip(".").split(", ")
                assert list(json.loads(sample.answer)) == keys
                seen += 1
    assert seen > 20


def test_comparisons_are_right_and_only_asked_where_the_labels_tell() -> None:
    rng = Random(5)
    young, old = FaceLabels("a", 0, {"age": 1}), FaceLabels("b", 0, {"age": 7})
    for _ in range(40):
        sample = older([young, old], rng)
        assert sample is not None
        assert sample.answer == ("B" if "older" in sample.text else "A")
    assert older([young, FaceLabels("c", 0, {"age": 1})], rng) is None
    assert all(s.form == "letters" for s in comparisons([face(rng), face(rng), face(rng)], rng, 4))


def test_a_mirrored_view_turns_the_other_way_and_says_nothing_of_light() -> None:
    row = {"yaw": 30.0, "pitch": 0.0, "eyes_open": 0.9, "brightness": 0.4, "sharpness": 50.0}
    assert TASKS["yaw"][measured_classes(row)["yaw"]] == "right"
    mirrored = measured_classes(row, mirrored=True)
    assert TASKS["yaw"][mirrored["yaw"]] == "left"
    assert "brightness" not in mirrored and "sharpness" not in mirrored


def test_unreliable_attribute_values_are_dropped() -> None:
    classes = attribute_classes({"glasses": "unclear", "headwear": "turban", "hair_color": "white", "gaze": "left"})
    assert "glasses" not in classes and "gaze" not in classes
    assert TASKS["headwear"][classes["headwear"]] == "other"
    assert TASKS["hair_color"][classes["hair_color"]] == "grey or white"


def test_one_train_picture_in_twenty_is_held_out() -> None:
    share = sum(held_out(f"train/{number}.jpg") for number in range(1, 10001)) / 10000
    assert share == pytest.approx(0.05, abs=0.001)


def test_plain_questions_have_one_phrasing_and_name_the_class() -> None:
    rng = Random(6)
    seen: dict[str, set[str]] = defaultdict(set)
    for _ in range(300):
        labels = face(rng)
        for sample in plain_questions(labels, rng, 8):
            assert sample.form in ("short", "letters")
            assert sample.task != "race" or sample.form == "letters", "no answer in words names a race"
            assert sample.text.splitlines()[0] == wording.ASK[sample.task][0]
            seen[sample.task].add(sample.form)
            if sample.form == "short":
                assert sample.answer == wording.option_text(sample.task, labels.classes[sample.task])
    assert set(seen) == set(PLAIN)
    assert all(forms == {"short", "letters"} for task, forms in seen.items() if task != "race")


def test_options_come_in_their_usual_order_and_in_others() -> None:
    rng = Random(7)
    orders = Counter(closed("gender", face(rng), rng).text.endswith("A) male\nB) female") for _ in range(400))
    assert 0.65 < orders[True] / orders.total() < 0.85


def test_what_is_rare_is_asked_about_more_often() -> None:
    rng = Random(8)
    faces = [FaceLabels(str(i), 0, {"headwear": 1 if i % 10 == 0 else 0, "age": 3, "gender": 0}) for i in range(1000)]
    boost = boost_of(faces)
    assert boost["headwear"][1] == pytest.approx(3 * boost["headwear"][0])
    assert sum(boost["headwear"][face.classes["headwear"]] for face in faces) / 1000 == pytest.approx(1)
    asked = dict.fromkeys((0, 1), 0)
    for face in faces * 4:
        for sample in plain_questions(face, rng, 8, boost):
            asked[face.classes["headwear"]] += sample.task == "headwear"
    assert 2 < (asked[1] / 400) / (asked[0] / 3600) < 4
