"""Closed questions: their right answers come from the labels, never from what the teacher happens to say in words."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from facellm_training.annotate.pictures import Picture
from facellm_training.annotate.recipe import Questions
from facellm_training.data import wording
from facellm_training.data.compare import comparisons
from facellm_training.data.labels import TASKS, FaceLabels
from facellm_training.data.questions import CLOSED_WEIGHT, Sample, as_json, closed, short, yes_no

#: Which aspect a task belongs to.
ASPECT_OF = {
    "age": "attributes", "gender": "attributes", "glasses": "attributes", "headwear": "attributes",
    "facial_hair": "skin", "smile": "expression", "mouth": "expression", "expression": "expression",
    "eyes": "pose", "hair_color": "structure", "hair_length": "structure", "background": "quality",
    "brightness": "quality", "sharpness": "quality",
}  # fmt: skip
#: So many questions are drawn to find one with the wanted answer; some faces have none.
_TRIES = 12
_CANNOT_BE_SEEN = (
    wording.UNSEEN_ANSWER,
    "This picture does not show that.",
    "A picture of a face does not tell that.",
    "That cannot be told from this picture.",
)


def conversation(
    key: str, pictures: list[Picture], question: str, answer: str, aspect: str, form: str
) -> dict[str, Any]:
    """One row of the data set, with one ``<image>`` a picture before the question."""
    return {
        "id": key,
        "images": [picture.path for picture in pictures],
        "messages": [
            {"role": "user", "content": "<image>" * len(pictures) + question},
            {"role": "assistant", "content": answer},
        ],
        "aspect": aspect,
        "format": form,
        "choices": [],
        "answer": "",
    }


def closed_conversations(picture: Picture, labels: FaceLabels, wanted: Questions) -> list[dict[str, Any]]:
    """Multiple choice, yes/no, short answers, JSON and "cannot be seen" about one picture; the same every time."""
    rng = Random(f"{wanted.seed} {picture.digest}")
    tasks = [task for task in CLOSED_WEIGHT if task in labels.classes and task != "race"]
    makers: list[tuple[str, float, Callable[[], Sample | None]]] = [
        ("choice", wanted.choice, lambda: closed(_draw(tasks, rng), labels, rng)),
        ("yesno", wanted.yesno, lambda: _yes_or_no([t for t in tasks if t in wording.YES_NO], labels, rng)),
        ("short", wanted.short, lambda: short(_draw(tasks, rng), labels, rng)),
        ("json", wanted.json, lambda: as_json(labels, rng)),
        ("unseen", wanted.unseen, lambda: _unseen(rng)),
    ]
    found: dict[str, dict[str, Any]] = {}
    for form, often, make in makers:
        for number in range(_times(often, rng)):
            sample = make()
            if sample is None:
                continue
            row = _row(f"{form}-{picture.digest[:16]}-{number}", [picture], sample, form)
            found.setdefault(row["messages"][0]["content"], row)  # the same question once
    return list(found.values())


def comparison(pair: list[tuple[Picture, FaceLabels]], wanted: Questions) -> dict[str, Any] | None:
    """Two faces in one question with lettered options; ``None`` where chance or the labels give none."""
    first, second = (picture for picture, _ in pair)
    rng = Random(f"{wanted.seed} {first.digest} {second.digest}")
    if not _times(wanted.compare, rng):
        return None
    samples = comparisons([labels for _, labels in pair], rng, 1)
    if not samples:
        return None
    return _row(f"compare-{first.digest[:16]}-{second.digest[:8]}", [first, second], samples[0], "compare")


def _row(key: str, pictures: list[Picture], sample: Sample, form: str) -> dict[str, Any]:
    aspect = ASPECT_OF.get(sample.task, "attributes" if form == "compare" else "detail")
    row = conversation(key, pictures, sample.text, sample.answer, aspect, form)
    if sample.form == "letters":
        row["choices"] = [line.split(") ", 1)[1] for line in sample.text.splitlines()[1:]]
        row["answer"] = sample.answer
    if form == "yesno":
        row["choices"], row["answer"] = ["Yes", "No"], sample.answer.split(",")[0]
    return row


def _yes_or_no(tasks: list[str], labels: FaceLabels, rng: Random) -> Sample:
    """As often "yes" as "no": most such questions are true of few faces, and a model would learn to say no."""
    word = rng.choice(("Yes", "No"))
    samples = [yes_no(_draw(tasks, rng), labels, rng) for _ in range(_TRIES)]
    return next((sample for sample in samples if sample.answer.startswith(word)), samples[0])


def _unseen(rng: Random) -> Sample:
    return Sample("unseen", "unseen", rng.choice(wording.UNSEEN_QUESTIONS), rng.choice(_CANNOT_BE_SEEN))


def _draw(tasks: list[str], rng: Random) -> str:
    return rng.choices(tasks, [CLOSED_WEIGHT[task] for task in tasks])[0]


def _times(often: float, rng: Random) -> int:
    whole = int(often)
    return whole + (rng.random() < often - whole)


def with_facts(picture: Picture, facts: dict[str, int]) -> FaceLabels:
    """FairFace's labels and the teacher's checked facts; where both speak, the labels stand."""
    known = picture.labels()
    classes = {task: value for task, value in facts.items() if task in TASKS} | known.classes
    if classes.get("glasses") == 2:
        classes.pop("eyes", None)  # behind sunglasses
    return FaceLabels(picture.file, 0, classes)
