"""What comes out: conversations that trainers read, right closed answers, a card and a report that tell everything."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from facellm.core.aspects import ASPECTS
from facellm.core.policy import judge
from facellm_training.annotate.closed import closed_conversations, with_facts
from facellm_training.annotate.dataset import read_conversations
from facellm_training.annotate.pictures import Picture
from facellm_training.annotate.prompts import SYSTEM, known_labels, open_prompt, questions_on, words_allowed
from facellm_training.annotate.recipe import Questions
from facellm_training.data.fairface import AGES, RACES
from tests.training.annotate.conftest import write_faces
from tests.training.teacher_server import TeacherServer

FORMATS = {"open", "choice", "yesno", "compare", "unseen", "json", "short"}
MANY = {"choice": 2.0, "yesno": 2.0, "short": 2.0, "json": 1.0, "unseen": 1.0, "compare": 1.0}


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    return write_faces(tmp_path / "faces", 18)


@pytest.fixture
def rows(run: Callable[..., dict[str, Any]], tmp_path: Path) -> list[dict[str, Any]]:
    run(questions=MANY)
    return read_conversations(tmp_path / "out/conversations.jsonl")


def test_every_form_is_there_and_pictures_match_their_marks(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    assert {row["format"] for row in rows} == FORMATS
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        user, assistant = row["messages"]
        assert (user["role"], assistant["role"]) == ("user", "assistant")
        assert user["content"].count("<image>") == len(row["images"]) == (2 if row["format"] == "compare" else 1)
        assert "<image>" not in assistant["content"]
        assert assistant["content"].strip()
        for path in row["images"]:
            with Image.open(tmp_path / "out" / path) as image:
                image.load()


def test_parquet_and_description_say_the_same(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    assert pq.read_table(tmp_path / "out/conversations.parquet").to_pylist() == rows
    info = json.loads((tmp_path / "out/dataset_info.json").read_text())["fairfacegpt"]
    assert (tmp_path / "out" / info["file_name"]).exists()
    # The original maps "image", which LLaMA-Factory does not read: it would train without pictures.
    assert info["columns"] == {"messages": "messages", "images": "images"}
    assert info["formatting"] == "sharegpt"
    assert info["tags"] == {
        "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
    }  # fmt: skip


def test_datasets_reads_it(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    out = tmp_path / "out"
    read = datasets.load_dataset(
        "json", data_files=str(out / "conversations.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(read) == len(rows)
    assert read[0]["messages"][0]["content"].startswith("<image>")


def known(tmp_path: Path) -> dict[str, tuple[int, int]]:
    found = json.loads((tmp_path / "out/pictures.json").read_text())["pictures"]
    return {row["path"]: (row["age"], row["gender"]) for row in found}


def test_right_answers_of_closed_questions_come_from_the_labels(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    labels = known(tmp_path)
    checked: Counter[str] = Counter()
    for row in rows:
        question, answer = (message["content"] for message in row["messages"])
        age, gender = labels[row["images"][0]]
        if row["format"] == "choice":
            options = dict(line.split(") ", 1) for line in question.splitlines()[1:])
            assert list(options.values()) == row["choices"]
            assert answer == row["answer"]
            if set(row["choices"]) == set(AGES):
                assert options[answer] == AGES[age]
                checked["age"] += 1
            if set(row["choices"]) == {"male", "female"}:
                assert options[answer] == ("male", "female")[gender]
                checked["gender"] += 1
        for words, true in (
            (("child", "younger than 10"), age < 2),
            (("adult", "at least 20"), age > 2),
            (("older than 50",), age > 5),
            (("look male", "man or boy"), gender == 0),
            (("look female", "woman or girl"), gender == 1),
        ):
            if row["format"] == "yesno" and any(word in question for word in words):
                assert row["answer"] == ("Yes" if true else "No")
                assert answer.startswith(row["answer"])
                checked["yesno"] += 1
        if row["format"] == "compare" and "older" in question:
            ages = [labels[path][0] for path in row["images"]]
            assert answer == "AB"[ages.index(max(ages))]
            checked["older"] += 1
        if row["format"] == "json" and '"age"' in answer:
            assert json.loads(answer)["age"] == AGES[age]
            checked["json"] += 1
    assert len(checked) == 5, checked


def test_no_race_is_named_anywhere(rows: list[dict[str, Any]]) -> None:
    text = json.dumps(rows)
    assert not [race for race in RACES if race not in ("Black", "White") and race in text]
    assert not re.search(r"\b(race|ethnic\w*|Black|White)\b", text)


def test_dropped_answers_stay_in_the_journal_with_their_reason(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    counts = run()
    with sqlite3.connect(tmp_path / "out/journal.sqlite") as base:
        verdicts = dict(base.execute("SELECT verdict, count(*) FROM requests WHERE text IS NOT NULL GROUP BY verdict"))
        texts = [row[0] for row in base.execute("SELECT text FROM requests WHERE verdict = 'refusal'")]
    assert verdicts.pop("") == counts["kept"]
    assert verdicts == counts["dropped"]
    assert {"refusal", "betrays that labels were given", "not readable as JSON"} <= set(verdicts)
    assert all("sorry" in text for text in texts)


def test_objects_that_could_not_be_read_are_asked_for_once_more(
    run: Callable[..., dict[str, Any]], teacher: TeacherServer
) -> None:
    counts = run()
    repairs = [body for body in teacher.bodies if "could not be read" in json.dumps(body)]
    assert 0 < len(repairs) == counts["dropped"]["not readable as JSON"] < 18
    assert counts["requests"] == 18 * 9 + len(repairs)


def test_the_card_names_model_prompts_and_counts(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    counts = run(source={"licence": "CC BY 4.0", "publish": True})
    card = (tmp_path / "out/README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-4.0\n")
    for part in ("teacher-1", SYSTEM, "refusal", f"| conversations | {counts['conversations']} |", "CC BY 4.0"):
        assert part in card
    shown = re.findall(r"!\[\]\((images/[^)]+)\)", card)
    assert 3 <= len(shown) <= 6
    assert all((tmp_path / "out" / path).exists() for path in shown)


def test_the_card_shows_no_pictures_without_a_licence(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    run()
    assert "![](" not in (tmp_path / "out/README.md").read_text()


def test_the_report_is_one_page_that_needs_nothing_else(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    counts = run()
    page = (tmp_path / "out/report.html").read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert page.count("data:image/jpeg") == 6
    for reason, count in counts["dropped"].items():
        assert f"<tr><td>{reason}<td>{count}" in page
    with Image.open(tmp_path / "out/report.png") as chart:
        assert chart.width > 1000
    assert json.loads((tmp_path / "out/report.json").read_text()) == counts


def test_babies_and_young_people_are_no_men_and_women() -> None:
    for age, name in enumerate(AGES[:3]):
        for gender in (0, 1):
            said = (
                known_labels(age, gender)
                + words_allowed(age, gender)
                + open_prompt("detail", age, gender, "Describe it.")
            )
            assert not re.search(r"\b(man|woman)\b", said), name
    assert "baby" in known_labels(0, 0)
    assert "child" in known_labels(1, 0)
    assert "young person" in known_labels(2, 0)
    assert "a woman, 20 to 29 years" in open_prompt("pose", 3, 1, "How is the head held?")


def test_yes_is_right_as_often_as_no() -> None:
    wanted, answers = Questions(choice=0, yesno=1, short=0, json=0, unseen=0), Counter[str]()
    for number in range(400):
        picture = Picture(f"{number}.jpg", f"images/{number}.jpg", f"{number:064x}", number % 9, number % 2)
        labels = with_facts(picture, {"glasses": 0, "headwear": 0, "smile": number % 3})
        answers.update(row["answer"] for row in closed_conversations(picture, labels, wanted))
    assert 160 < answers["Yes"] < 240 and answers.total() == 400


@pytest.mark.parametrize("key", [item.key for item in ASPECTS])
def test_an_aspect_has_several_phrasings_and_none_tells_a_label(key: str) -> None:
    phrasings = questions_on(key)
    assert len(set(phrasings)) == len(phrasings) >= 5
    assert not any(judge(text).refusal for text in phrasings)
    assert not any(re.search(r"\b(woman|man|baby|child|\d+)\b", text) for text in phrasings)
