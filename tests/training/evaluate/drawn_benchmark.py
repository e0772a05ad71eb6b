"""A benchmark in FaceXBench's public layout, drawn here: faces are discs, which is enough to be asked about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

POSTPEND = "Please answer the question and provide only the correct option letter, e.g., A, B, C, D."


def disc(path: Path, colour: str, size: tuple[int, int] = (160, 120)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).ellipse((20, 10, size[0] - 20, size[1] - 10), fill=colour)
    image.save(path)


def question(paths: list[str], text: str, options: list[Any], letter: str) -> dict[str, Any]:
    return {
        "image_paths": paths, "question_text": text, "options": options, "correct_answer_option": letter,
        "answer": options["ABCD".index(letter)] if letter in "ABCD" else None,
    }  # fmt: skip


def file_of(category: str, sub: str, dataset: str, images: str, questions: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "category": category, "sub-category": sub, "dataset": dataset, "question_type": "MCQ", "num_images": images,
        "prepend_text": f"You have to perform the task of {sub}.", "postpend_text": POSTPEND,
        "questions": {str(number): row for number, row in enumerate(questions, 1)},
    }  # fmt: skip


def draw_benchmark(root: Path) -> Path:
    """Four files, nine questions: one picture, several, none; options that are words, numbers, and equal."""
    base = root / "benchmark"
    for name, colour in (("1_1", "tan"), ("1_2", "brown"), ("1_3", "peru"), ("2_1", "navy")):
        disc(base / f"images/drawn/question_{name}.png", colour)
    one, two, three, four = (f"images/drawn/question_{name}.png" for name in ("1_1", "1_2", "1_3", "2_1"))
    ages = ["0-2", "20-29", "40-49", "70+"]
    files = {
        "fairface_single_mcq_age_test": file_of("bias_fairness", "age", "fairface", "single", [
            question([one], "Estimate the age group of the person in this image.", ages, "B"),
            question([two], "Estimate the age group of the person in this image.", ages, "C"),
            question([four], "Estimate the age group of the person in this image.", ages, "A"),
        ]),
        "utkface_multiple_mcq_gender_test": file_of("bias_fairness", "gender", "utkface", "multiple", [
            question([one, two, three], "How many images show male individuals?", [0, 1, 2, 3], "D"),
            question([one, two], "Which images depict female individuals?",
                     ["Image 1", "Image 2", "Image 1, Image 2", "None of the above"], "D"),
        ]),
        "rafdb_single_mcq_train": file_of("attributes_expression", "expression", "rafdb", "single", [
            question([three], "Which expression is it?", ["Happy", "Sad", "Sad", "Neutral"], "A"),
        ]),
        "tools_retrieval": file_of("tools_use", "tools_retrieval", "gpt4o", "zero", [
            question(["images/tools_retrieval/question_1.png"], "Which calls?", ["a", "b", "c", "d"], "C"),
            question([], "Which calls then?", ["a", "b", "c", "d"], "D"),
        ]) | {"context": "Ignore the black image provided.\n1. api_1"},
    }  # fmt: skip
    for name, found in files.items():
        (base / f"{name}.json").write_text(json.dumps(found))
    (base / "package.json").write_text(json.dumps({"name": "not a question file"}))
    return root
