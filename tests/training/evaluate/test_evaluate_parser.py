"""The official parser's behaviour with its hazards; FaceXBench's folder read as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facellm_training.evaluate.answer_parser import official_letter
from facellm_training.evaluate.facexbench import BLACK, MODES, THINK, read_facexbench
from facellm_training.evaluate.items import EvaluationError
from tests.training.evaluate.drawn_benchmark import POSTPEND, draw_benchmark

WORDS = ["0-2", "20-29", "40-49", "more than 70"]


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("A", "A"), ("(B)", "B"), ("Option C", "C"), ("D.", "D"), ("A: 0-2", "A"), ("B - 20-29", "B"),
        ("  C) 40-49", "C"), ("The correct option is (D).", "D"), ("**B**", "B"), ("Answer:\nC", "C"),
        # hazards: what a reader understands is not what is counted
        ("A man in his thirties, so the answer is C.", "A"),
        ("Vitamin D. So B.", "D"), ("B or C, I think D.", "B"), ("It isn't A, but C.", "A"),
        ("I think E, so 40-49.", "C"),
        ("b", None), ("option b", None), ("Because", None), ("A1", None), ("", None), ("I cannot tell.", None),
        ("The person is 40-49 years old.", "C"),
        # "0-2" stands in "20-29"
        ("The person is 20-29 years old.", "A"), ("more than 70", "D"), ("MORE THAN 70", None),
        ("either more than 70 or 40-49", "C"),
    ],
)  # fmt: skip
def test_the_letter_that_counts(answer: str, letter: str | None) -> None:
    assert official_letter(answer, WORDS) == letter


def test_an_option_inside_another_one_is_found_first() -> None:
    assert official_letter("female", ["male", "female", "other", "none"]) == "A"
    assert official_letter("there are 10", [1, 10, 0, 2]) == "A"


def test_letters_end_with_the_options() -> None:
    assert official_letter("C", ["yes", "no"]) is None
    assert official_letter("E", list("vwxyz")) == "E"


def test_prompts_are_laid_out_as_the_original_does(tmp_path: Path) -> None:
    root = draw_benchmark(tmp_path)
    prompts = {mode: {item.id: item.prompt for item in read_facexbench(root, mode).items} for mode in MODES}
    number = "utkface_multiple_mcq_gender_test:1"
    options = "(A) 0\n(B) 1\n(C) 2\n(D) 3"
    asked = "How many images show male individuals?"
    assert prompts["zero-shot"][number] == f"{asked}\n{POSTPEND}\n{options}"
    assert prompts["in-context"][number] == f"You have to perform the task of gender.\n{asked}\n{POSTPEND}\n{options}"
    assert prompts["chain-of-thought"][number] == f"{asked}\n{THINK}\n{options}"
    assert prompts["zero-shot"]["tools_retrieval:1"].startswith("Ignore the black image provided.\n1. api_1\nWhich")


def test_items_hold_pictures_truth_and_overlap(tmp_path: Path) -> None:
    found = read_facexbench(draw_benchmark(tmp_path) / "benchmark")
    items = {item.id: item for item in found.items}
    assert found.files == 4 and len(items) == 8 and not found.skipped
    assert [len(item.pictures) for item in found.items] == [1, 1, 1, 1, 1, 1, 3, 2]
    assert items["tools_retrieval:1"].pictures == (BLACK,)
    assert items["utkface_multiple_mcq_gender_test:1"].right == 3
    assert items["rafdb_single_mcq_train:1"].options == ("Happy", "Sad", "Sad", "Neutral")
    overlap = {item.id.rpartition(":")[0] for item in found.items if item.groups["overlap"] == "yes"}
    assert overlap == {"fairface_single_mcq_age_test", "rafdb_single_mcq_train"}


def test_bad_questions_are_counted_with_their_reason(tmp_path: Path) -> None:
    root = draw_benchmark(tmp_path)
    path = root / "benchmark/fairface_single_mcq_age_test.json"
    found = json.loads(path.read_text())
    found["questions"]["1"]["correct_answer_option"] = "F"
    del found["questions"]["2"]["options"]
    found["questions"]["3"]["image_paths"] = []
    path.write_text(json.dumps(found))
    read = read_facexbench(root)
    assert len(read.items) == 5
    reasons = [read.skipped[f"fairface_single_mcq_age_test:{number}"] for number in (1, 2, 3)]
    assert "unknown option letter 'F'" in reasons[0]
    assert "incomplete question" in reasons[1] and "options" in reasons[1]
    assert reasons[2] == "no picture is named"


def test_an_empty_folder_and_a_broken_file_say_so(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no question files"):
        read_facexbench(tmp_path)
    root = draw_benchmark(tmp_path)
    (root / "benchmark/tools_retrieval.json").write_text('{"questions": {')
    with pytest.raises(EvaluationError, match=r"tools_retrieval\.json cannot be read"):
        read_facexbench(root)
