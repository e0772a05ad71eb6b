"""``facellm ask`` from a photo to an answer: the real command, finder, engine and nano."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command import run

GLASSES = "Is this person wearing glasses?"

Model = tuple[str, str]


def rows(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_astronaut_wears_no_glasses(model: Model, photos: Path) -> None:
    done = run("ask", photos / "one.png", GLASSES, *model)
    assert done.returncode == 0, done.stderr
    heading, answer = done.stdout.splitlines()
    assert heading == "Face A"
    assert answer.lower().startswith("no")


def test_the_astronaut_truthfully_by_probabilities(model: Model, photos: Path) -> None:
    done = run("ask", photos / "one.png", "-q", GLASSES, "-q", "Is this person smiling?", "-q",
               "Does this person look female?", "--choices", "yes,no", "--json", *model)  # fmt: skip
    answers = rows(done)[0]["faces"][0]["answers"]
    assert all(sum(choice["p"] for choice in answer["choices"]) == pytest.approx(1, abs=2e-4) for answer in answers)
    assert [answer["answer"] for answer in answers] == ["no", "yes", "yes"]


def test_json_has_exactly_the_documented_fields(model: Model, photos: Path) -> None:
    done = run(
        "ask",
        photos / "one.png",
        "-q",
        GLASSES,
        "-q",
        "Describe the head pose.",
        "--json",
        "--max-tokens",
        "24",
        *model,
    )
    assert done.returncode == 0, done.stderr
    (row,) = rows(done)
    assert list(row) == ["image", "model", "faces"]
    assert row["image"] == str(photos / "one.png")
    assert list(row["model"]) == ["name", "llm", "mmproj", "device"]
    assert all(Path(row["model"][part]).is_file() for part in ("llm", "mmproj"))
    assert "CPU" in row["model"]["device"]
    (face,) = row["faces"]
    assert list(face) == ["label", "box", "score", "facts", "encode_s", "answers"]
    x, y, w, h = face["box"]
    assert 150 < x < 220 and 40 < y < 110 and 70 < w < 140 and 70 < h < 160
    assert 0.5 < face["score"] <= 1
    assert face["facts"]["smile"] > 0.5
    assert face["encode_s"] > 0
    assert [answer["question"] for answer in face["answers"]] == [GLASSES, "Describe the head pose."]
    for answer in face["answers"]:
        assert list(answer)[:6] == ["question", "answer", "choices", "first_token_s", "tokens", "tokens_per_s"]
        assert answer["answer"]
        assert answer["choices"] == []
        assert answer["tokens"] > 0 and answer["tokens_per_s"] > 0


def test_a_second_question_about_a_face_encodes_nothing_again(model: Model, photos: Path) -> None:
    one = rows(run("ask", photos / "one.png", GLASSES, "--choices", "yes,no", "--json", *model))[0]["faces"][0]
    asked = [part for number in range(8) for part in ("-q", f"Is there a hat? ({number})")]
    many = rows(run("ask", photos / "one.png", *asked, "--choices", "yes,no", "--json", *model))[0]["faces"][0]
    # Eight encodings would take eight times as long; 3 leaves room for a busy machine.
    assert many["encode_s"] < 3 * one["encode_s"]
    first, *later = [answer["first_token_s"] for answer in many["answers"]]
    assert max(later) < first


def test_the_order_of_questions_changes_no_answer(model: Model, photos: Path) -> None:
    questions = ["Describe the face and hair.", GLASSES]
    texts = []
    for order in (questions, questions[::-1]):
        asked = [part for question in order for part in ("-q", question)]
        face = rows(run("ask", photos / "one.png", *asked, "--json", "--max-tokens", "24", *model))[0]["faces"][0]
        texts.append({answer["question"]: answer["answer"] for answer in face["answers"]})
    assert texts[0] == texts[1]


def test_several_faces_are_all_asked_and_it_is_said(model: Model, photos: Path) -> None:
    done = run("ask", photos / "two.jpg", GLASSES, "--max-tokens", "8", *model)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("Face")] == ["Face A", "Face B"]
    assert "2 faces (A, B): asking about each" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_one_face_of_several(model: Model, photos: Path) -> None:
    done = run("ask", photos / "two.jpg", GLASSES, "--face", "b", "--choices", "yes,no", "--json", *model)
    (face,) = rows(done)[0]["faces"]
    assert face["label"] == "B"
    assert face["box"][0] > 512


def test_two_faces_in_one_question(model: Model, photos: Path) -> None:
    done = run("ask", photos / "two.jpg", "Which person looks older?", "--face", "A+B", "--choices", "A,B", "--json",
               *model)  # fmt: skip
    (face,) = rows(done)[0]["faces"]
    assert (face["label"], face["box"], face["score"], face["facts"]) == ("A+B", None, None, {})
    assert face["answers"][0]["answer"] in ("A", "B")


def test_a_face_that_is_not_there(model: Model, photos: Path) -> None:
    done = run("ask", photos / "one.png", GLASSES, "--face", "C", "--json", *model)
    assert done.returncode == 1
    (row,) = rows(done)
    assert list(row) == ["image", "error"]
    assert "no face C" in row["error"]
    assert "There are: A" in done.stderr


def test_no_face_says_so_and_offers_the_whole_picture(model: Model, photos: Path) -> None:
    done = run("ask", photos / "none.png", "Describe this picture.", "--json", *model)
    assert done.returncode == 1
    (row,) = rows(done)
    assert row["faces"] == []
    assert "No face was found" in row["note"]
    assert "--face whole" in done.stderr


def test_the_whole_picture_is_asked_without_detection(model: Model, photos: Path) -> None:
    done = run(
        "ask", photos / "none.png", "Describe this picture.", "--face", "whole", "--json", "--max-tokens", "8", *model
    )
    assert done.returncode == 0, done.stderr
    (face,) = rows(done)[0]["faces"]
    assert (face["label"], face["box"], face["score"], face["facts"]) == ("whole", [0, 0, 400, 300], None, {})
    assert face["answers"][0]["answer"]
    assert "Looking for faces" not in done.stderr


def test_an_unreadable_photo_is_an_error_and_the_others_are_answered(model: Model, photos: Path) -> None:
    three = [photos / name for name in ("broken.jpg", "missing.jpg", "one.png")]
    done = run("ask", *three, GLASSES, "--json", "--max-tokens", "8", *model)
    assert done.returncode == 1
    broken, missing, answered = rows(done)
    assert list(broken) == list(missing) == ["image", "error"]
    assert "missing.jpg" in missing["error"]
    assert answered["faces"][0]["answers"][0]["answer"]


def test_choices_come_with_probabilities_for_people_too(model: Model, photos: Path) -> None:
    done = run("ask", photos / "one.png", "Which glasses does this person wear?", "--choices",
               "no glasses,eyeglasses,sunglasses", *model)  # fmt: skip
    _, answer, *choices = done.stdout.splitlines()
    assert answer in ("no glasses", "eyeglasses", "sunglasses")
    assert len(choices) == 3
    assert sum(float(line.split("%")[0]) for line in choices) == pytest.approx(100, abs=0.2)


def test_what_is_not_inferred_is_explained_without_loading_the_model(model: Model, photos: Path) -> None:
    done = run("ask", photos / "one.png", "-q", "What race is this person?", "-q", "Who is this?", "--json", *model)
    assert done.returncode == 0, done.stderr
    ethnicity, identity = rows(done)[0]["faces"][0]["answers"]
    assert "does not infer ethnicity" in ethnicity["answer"]
    assert "does not say who" in identity["answer"]
    assert ethnicity["finish"] == identity["finish"] == "policy"
    assert rows(done)[0]["model"]["device"] is None
    assert "Loading the model" not in done.stderr


def test_a_feeling_is_answered_as_expression_with_a_note(model: Model, photos: Path) -> None:
    done = run("ask", photos / "one.png", "Is she happy?", "--max-tokens", "24", *model)
    assert done.returncode == 0, done.stderr
    assert "(A face shows movement, not feelings" in done.stdout


def test_a_model_that_is_not_there_is_a_clear_error(photos: Path) -> None:
    done = run("ask", photos / "one.png", GLASSES, "--model", "no-such-model")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "no model called no-such-model" in done.stderr
    assert "Traceback" not in done.stderr
