"""A question set in FaceXBench's public layout, made from FairFace: to try `facellm evaluate facexbench` without it.

    python3 run.py bench face_questions --faces FOLDER --out FOLDER [--questions N]

Thirteen files: age, gender and race, with one picture and with two to six, once named as FairFace (which the benchmark
counts as overlap) and once as another set, and one file without pictures. No score on it can be compared with one on
FaceXBench itself.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from facellm_training.data.fairface import AGES, GENDERS, RACES, FairFaceItem, read_fairface

POSTPEND = "Please answer the question and provide only the correct option letter, e.g., A, B, C, D."
PREPEND = {
    "age": f"Age estimation predicts the age of a person. The age groups are: {', '.join(AGES)}. "
    "You have to perform the task of age estimation.",
    "gender": "Gender prediction says whether a face looks male or female. You have to perform the task of gender "
    "prediction.",
    "race": f"Race estimation predicts the race of a person. The classes are: {', '.join(RACES)}. "
    "You have to perform the task of race estimation.",
}
NAMES = {"age": AGES, "gender": GENDERS, "race": RACES}
#: Question, wrong options, right option, pictures.
Made = tuple[str, list[str], str, list[FairFaceItem]]


def main() -> int:
    """Write the set, and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True, help="FairFace's parquet")
    parser.add_argument("--out", type=Path, required=True, help="where benchmark/ is made")
    parser.add_argument("--questions", type=int, default=100, help="of each file")
    options = parser.parse_args()
    rng = random.Random(0)
    faces = list(read_fairface(options.faces, "validation"))
    base: Path = options.out / "benchmark"
    for dataset in ("fairface", "other"):
        for task in NAMES:
            for images, make in (("single", _single), ("multiple", _several)):
                name = f"{dataset}_{images}_mcq_{task}_test"
                made = [make(task, faces, rng) for _ in range(options.questions)]
                rows = [_row(base, name, number, one, rng) for number, one in enumerate(made, 1)]
                _write(base / f"{name}.json", "bias_fairness", task, dataset, images, PREPEND[task], rows)
    rows = [_tool(number, rng) for number in range(options.questions)]
    _write(base / "tools_retrieval.json", "tools_use", "tools_retrieval", "drawn", "zero", "Choose calls.", rows)
    print(f"{13 * options.questions} questions in 13 files below {base}")
    return 0


def _single(task: str, faces: list[FairFaceItem], rng: random.Random) -> Made:
    face = rng.choice(faces)
    right = NAMES[task][getattr(face, task)]
    others = [name for name in NAMES[task] if name != right]
    wrong = rng.sample(others, min(3, len(others)))
    wrong += ["Cannot be determined", "None of the above"][: 3 - len(wrong)]
    asked = {"age": "Estimate the age group of the person in this image.", "gender": "Is this person male or female?",
             "race": "Estimate the race of the person in this image."}  # fmt: skip
    return asked[task], wrong, right, [face]


def _several(task: str, faces: list[FairFaceItem], rng: random.Random) -> Made:
    makers: list[Callable[[str, list[FairFaceItem], random.Random], Made]] = [_which, _count]
    return rng.choice([*makers, _order] if task == "age" else makers)(task, faces, rng)


def _which(task: str, faces: list[FairFaceItem], rng: random.Random) -> Made:
    """One of three pictures, or none."""
    shown = rng.sample(faces, 3)
    value = getattr(rng.choice(faces if rng.random() < 0.25 else shown), task)
    having = [at for at, face in enumerate(shown, 1) if getattr(face, task) == value]
    if len(having) > 1:
        return _count(task, faces, rng)
    right = f"Image {having[0]}" if having else "None of the above"
    options = [f"Image {at}" for at in (1, 2, 3)] + ["None of the above"]
    asked = f"Which image shows a person who is {NAMES[task][value]}?"
    return asked, [option for option in options if option != right], right, shown


def _count(task: str, faces: list[FairFaceItem], rng: random.Random) -> Made:
    """How many of two to six pictures."""
    shown = rng.sample(faces, rng.randint(2, 6))
    value = getattr(rng.choice(shown), task)
    number = sum(getattr(face, task) == value for face in shown)
    wrong = [str(other) for other in rng.sample([n for n in range(7) if n != number], 3)]
    return f"How many images show a person who is {NAMES[task][value]}?", wrong, str(number), shown


def _order(task: str, faces: list[FairFaceItem], rng: random.Random) -> Made:
    """Three pictures of different ages."""
    ages = rng.sample(range(len(AGES)), 3)
    shown = [rng.choice([face for face in faces if face.age == age]) for age in ages]
    orders = [", ".join(f"Image {at}" for at in order) for order in rng.sample(
        [(1, 2, 3), (1, 3, 2), (2, 1, 3), (2, 3, 1), (3, 1, 2), (3, 2, 1)], 6)]  # fmt: skip
    right = ", ".join(f"Image {at}" for at in sorted((1, 2, 3), key=lambda at: ages[at - 1]))
    wrong = [order for order in orders if order != right][:3]
    return f"Arrange the following images in ascending order of {task}.", wrong, right, shown


def _row(base: Path, name: str, number: int, made: Made, rng: random.Random) -> dict[str, Any]:
    question, wrong, right, shown = made
    paths = []
    for at, face in enumerate(shown, 1):
        path = base / "images" / name / f"question_{number}{f'_{at}' if len(shown) > 1 else ''}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(face.encoded)
        paths.append(path.relative_to(base).as_posix())
    return _question(paths, question, wrong, right, rng)


def _tool(number: int, rng: random.Random) -> dict[str, Any]:
    calls = [f"api_1-predict_age, api_{other}-find_{other}" for other in range(2, 6)]
    right = calls[number % 4]
    asked = f"The age is wanted, then what find_{number % 4 + 2} finds. Which calls are right?"
    return _question([], asked, [call for call in calls if call != right], right, rng)


def _question(paths: list[str], asked: str, wrong: list[str], right: str, rng: random.Random) -> dict[str, Any]:
    options = rng.sample([right, *wrong], 4)
    letter = "ABCD"[options.index(right)]
    return {
        "image_paths": paths, "question_text": asked, "options": options, "correct_answer_option": letter,
        "answer": right,
    }  # fmt: skip


def _write(
    path: Path, category: str, task: str, dataset: str, images: str, prepend: str, rows: list[dict[str, Any]]
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {
        "category": category, "sub-category": task, "dataset": dataset, "question_type": "MCQ", "num_images": images,
        "prepend_text": prepend, "postpend_text": POSTPEND,
        "questions": {str(number): row for number, row in enumerate(rows, 1)},
    }  # fmt: skip
    if category == "tools_use":
        found["context"] = (
            "Ignore the black image provided.\n1. api_1: predict_age\n2. api_2 to api_5: find_2 to find_5"
        )
    path.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
