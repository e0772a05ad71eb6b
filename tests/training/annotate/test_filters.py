"""Which answers are dropped and under which reason, and which ordinary ones are not."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from facellm_training.annotate.duplicates import NearDuplicates
from facellm_training.annotate.facts import FACT_TASKS, UNKNOWN, parse_facts, response_format
from facellm_training.annotate.filters import facts_verdict, verdict
from facellm_training.annotate.journal import Reply
from facellm_training.data.fairface import AGES, GENDERS, read_fairface
from facellm_training.data.labels import TASKS
from tests.training.teacher_server import facts


def reason(text: str, age: str = "30-39", gender: str = "female", finish: str = "stop") -> str:
    return verdict(Reply(text, finish, "", 0, 0), AGES.index(age), GENDERS.index(gender), 4)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that request.",
        "I’m sorry, I cannot describe this person.",
        "As an AI, I do not describe people.",
        "I am unable to view the picture that was sent.",
    ],
)
def test_refusals(text: str) -> None:
    assert reason(text) == "refusal"
    assert reason("The hair is dark and worn long.", finish="content_filter") == "refusal"


@pytest.mark.parametrize(
    "text",
    [
        "As provided, this is a woman with dark hair.",
        "According to the label, the person is in the thirties.",
        "Based on the given information, the woman is an adult.",
        "The provided age range fits the visible lines.",
        "The skin is smooth, consistent with the stated age.",
        "She is labelled as female and has dark hair.",
        "You told me that this is a woman with long hair.",
        "The face fits the age bin well enough.",
        "The woman, who is known to be between 20 and 29 years old, smiles.",
        "Knowing that the person is an adult, the skin looks smooth.",
        "The face fits the described age range of 20 to 29 years.",
        "Without revealing the label, the woman looks young.",
        "The age category of the woman shows in light lines.",
        "The woman, already identified as an adult, smiles broadly.",
        "The person was described as a woman; her hair is brown.",
        "Per your note, this is a woman with brown hair.",
        "The pre-specified attributes suggest a woman.",
        "The picture shows the person mentioned, a young woman.",
    ],
)
def test_answers_that_betray_the_labels(text: str) -> None:
    assert reason(text) == "betrays that labels were given"


@pytest.mark.parametrize(
    ("text", "age", "gender"),
    [
        ("The woman has short dark hair here.", "0-2", "female"),
        ("A man with short dark hair smiles.", "3-9", "male"),
        ("The young man has short dark hair.", "10-19", "male"),
        ("The boy has short dark hair here.", "30-39", "male"),
        ("A teenager with short dark hair smiles.", "50-59", "male"),
        ("She looks to be in her late sixties.", "20-29", "female"),
        ("The face looks 40 to 49 years old.", "20-29", "female"),
        ("The visible age range is 5-10 years.", "20-29", "female"),
        ("He appears to be 25 years old.", "60-69", "male"),
        ("An elderly person with grey hair smiles.", "20-29", "male"),
        ("The baby has round cheeks and smiles.", "20-29", "male"),
        ("She seems to be in her 60s or 70s.", "30-39", "female"),
    ],
)
def test_words_and_numbers_that_contradict_the_age(text: str, age: str, gender: str) -> None:
    assert reason(text, age, gender) == "contradicts the age"


@pytest.mark.parametrize(
    ("text", "age", "gender"),
    [
        ("The baby has round cheeks and fine hair.", "0-2", "female"),
        ("A little girl with a fringe smiles.", "3-9", "female"),
        ("The teenage boy has short dark hair.", "10-19", "male"),
        ("The young person faces the camera directly.", "10-19", "male"),
        ("A middle-aged man with a moustache smiles.", "40-49", "male"),
        ("She looks to be in her late twenties.", "20-29", "female"),
        ("She looks to be in her late twenties or early thirties.", "30-39", "female"),
        ("The face looks 20 to 29 years old.", "20-29", "female"),
        ("He appears to be 70 years old or more.", "70+", "male"),
        ("The woman is an adult, not a child, with long hair.", "30-39", "female"),
        ("There is no beard and no stubble on the child's face.", "3-9", "male"),
        ("The picture has the look of the 1970s, with a woman in front.", "20-29", "female"),
        ("Two lamps and 12 books stand behind the woman.", "30-39", "female"),
    ],
)
def test_what_agrees_is_kept(text: str, age: str, gender: str) -> None:
    assert reason(text, age, gender) == ""


def test_gender_words() -> None:
    assert reason("The man has a strong jaw.", gender="female") == "contradicts the gender"
    assert reason("Her hair is dark and long.", gender="male") == "contradicts the gender"
    assert reason("His hair is dark and short.", gender="male") == ""


@pytest.mark.parametrize(
    ("text", "age", "gender"),
    [
        ("The baby has a full beard.", "0-2", "male"),
        ("The child has wrinkles around the eyes.", "3-9", "female"),
        ("The man is clean-shaven and has a thick beard.", "30-39", "male"),
        ("The man is bald, with long hair at the sides.", "30-39", "male"),
        ("She is not wearing glasses. The woman is wearing round glasses.", "30-39", "female"),
    ],
)
def test_attribute_logic(text: str, age: str, gender: str) -> None:
    assert reason(text, age, gender) == "attribute logic"


@pytest.mark.parametrize(
    "text",
    [
        "An Asian woman with long hair smiles.",
        "The woman is of African descent, with curly hair.",
        "Her ethnicity seems to be Hispanic, with brown eyes.",
        "The dark-skinned woman looks at the camera.",
        "Her complexion is even and light.",
    ],
)
def test_ethnicity_and_what_stands_in_for_it(text: str) -> None:
    assert reason(text) == "ethnicity"


def test_colours_of_things_are_no_ethnicity() -> None:
    assert reason("The woman has black hair and wears a white shirt before a brown wall.") == ""


def test_feelings_are_no_visible_expression() -> None:
    assert reason("The woman is happy and feels at ease.") == "felt emotion"
    assert reason("The woman shows a happy expression with raised cheeks.") == ""
    assert reason("The woman is happy-looking, with a broad smile.") == ""


def test_words_that_look_like_a_betrayal_are_kept() -> None:
    assert reason("The woman wears a labelled name tag on her shirt and smiles.") == ""
    assert reason("Information about the right ear is hidden by the woman's hair.") == ""


def test_short_cut_off_and_foreign_answers() -> None:
    assert reason("Dark hair.") == "too short"
    assert reason("The hair is dark and", finish="length") == "cut off"
    assert reason("女性有着长长的黑色头发 и широкая улыбка на лице") == "not in one language"


def test_descriptions_by_another_model_mostly_pass(shared_data: Path) -> None:
    """4,599 descriptions written without these filters in mind: what is dropped contradicts its label, or nearly."""
    labels = {item.file: (item.age, item.gender) for item in read_fairface(shared_data / "fairface", "train")}
    rows = [json.loads(line) for line in (shared_data / "fairface" / "attributes-train.jsonl").open()]
    found = Counter(verdict(Reply(row["description"], "stop", "", 0, 0), *labels[row["file"]], 4) for row in rows)
    assert found[""] / len(rows) > 0.99
    assert found["refusal"] == found["betrays that labels were given"] == 0


def test_near_duplicates_are_found_and_different_texts_are_not() -> None:
    rng = Random(0)
    words = [f"word{number}" for number in range(400)]
    index = NearDuplicates(0.9)
    texts = [" ".join(rng.choices(words, k=40)) for _ in range(300)]
    assert not any(index.seen(text) for text in texts)
    for text in texts:
        assert index.seen(text.upper() + "!")
        assert index.seen(text + " end")
        shuffled = text.split()
        rng.shuffle(shuffled)
        assert not NearDuplicatesOf(text).seen(" ".join(shuffled))


class NearDuplicatesOf(NearDuplicates):
    """An index of one text."""

    def __init__(self, text: str) -> None:
        super().__init__(0.9)
        self.seen(text)


def test_the_same_words_may_come_again_so_often() -> None:
    index = NearDuplicates(0.9, most=3)
    assert [index.seen("The head faces the camera.") for _ in range(5)] == [False, False, False, True, True]
    assert not index.seen("The head is turned to the left of the picture.")


def test_descriptions_by_a_pattern_are_kept_and_few_are_compared() -> None:
    """A teacher writes by a pattern, and most words are alike. A filter for that would empty a large run, and comparing
    all with all would never end: what is looked at a text stays the same from 1,000 texts to 4,000."""
    index, rng = NearDuplicates(0.9), Random(0)
    dropped = sum(index.seen(patterned(rng)) for _ in range(4000))
    assert dropped < 100
    assert max(map(len, index._buckets.values())) <= 32


def patterned(rng: Random) -> str:
    """One of 6 million descriptions with the same sentences."""
    words = (
        ("oval", "round", "square", "long", "narrow"), ("high", "low", "broad", "covered"),
        ("soft", "broad", "narrow", "rounded"), ("straight", "wide", "rounded", "upturned"),
        ("thick", "thin", "arched", "light"), ("black", "brown", "blond", "grey", "red"),
        ("short", "cropped", "long", "tied back", "wavy"), ("loose", "back", "up", "to the side"),
        ("a fringe", "no fringe", "a side parting", "a middle parting"), ("small", "large", "covered", "even"),
    )  # fmt: skip
    text = (
        "The face is {} with a {} forehead and a {} jaw. The nose is {} and the brows are {}. The hair is {}, {} and "
        "worn {} with {}. The ears are {}."
    )
    return text.format(*map(rng.choice, words))


def test_facts_are_checked() -> None:
    good = facts(Random(1))
    parsed = parse_facts(f"Here it is:\n```json\n{json.dumps(good)}\n```")
    assert isinstance(parsed, dict)
    assert "background" not in parsed, f"{UNKNOWN} is no fact"
    assert all(TASKS[task][value] == good[task] for task, value in parsed.items())
    for bad in (good | {"glasses": "monocle"}, good | {"mood": "good"}, {"glasses": "none"}):
        assert isinstance(parse_facts(json.dumps(bad)), str)
    assert "no JSON" in str(parse_facts("No."))
    assert "not valid JSON" in str(parse_facts("{not: json}"))


def test_facts_of_children_are_checked_for_sense() -> None:
    beard = {"facial_hair": 3}
    assert facts_verdict(beard, AGES.index("3-9")) == "attribute logic"
    assert facts_verdict(beard, AGES.index("30-39")) == ""
    assert facts_verdict({"hair_color": 5, "headwear": 0}, AGES.index("30-39")) == "attribute logic"


def test_the_schema_is_strict() -> None:
    schema = response_format()["json_schema"]["schema"]
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == set(schema["properties"]) == set(FACT_TASKS)
    assert "race" not in schema["properties"]
