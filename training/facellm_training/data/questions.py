"""Turns the labels of a picture into questions with answers.

Formats: lettered options (shuffled, sometimes four with "None of the above"), yes/no, short
answers, sentences on the eight aspects, JSON, "cannot be seen", and comparisons of pictures.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import TypeAlias

from facellm.core.aspects import ASPECTS, aspect
from facellm.core.prompt import choice_keys, user_text
from facellm_training.data import wording
from facellm_training.data.labels import TASKS, FaceLabels

NONE_OF_THE_ABOVE = "None of the above"

#: Tasks whose classes have an order; their options mostly keep it, as a person would list them.
ORDERED = frozenset({"age", "smile", "turn", "brightness", "sharpness", "yaw"})

#: How often each task is drawn for a closed question, relative to the others.
CLOSED_WEIGHT: dict[str, float] = {
    "age": 5.0, "gender": 2.5, "race": 1.2, "glasses": 1.4, "facial_hair": 2.0, "smile": 2.4, "mouth": 1.8,
    "hair_color": 1.8, "hair_length": 0.8, "headwear": 1.4, "expression": 1.8, "background": 0.4, "yaw": 1.6,
    "turn": 0.5, "pitch": 0.5, "eyes": 0.4, "brightness": 0.3, "sharpness": 0.4,
}  # fmt: skip


#: Tasks asked of (nearly) every picture: they are the hardest and every picture has their label.
ALWAYS = {"age": 0.75, "gender": 0.5}

#: Tasks of the plain questions that training begins with.
PLAIN = (
    "gender", "age", "glasses", "smile", "mouth", "hair_color", "facial_hair", "headwear", "expression", "yaw", "race",
)  # fmt: skip

#: Task → for each class how much more or less often than another it is asked about; missing: always 1.
Boost: TypeAlias = Mapping[str, Sequence[float]]
NO_BOOST: Boost = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Sample:
    """One question about one or more pictures. ``soft``: other right first answers and their share."""

    task: str
    form: str
    text: str
    answer: str
    soft: dict[str, float] = field(default_factory=dict)


def closed(
    task: str, labels: FaceLabels, rng: Random, *, age_smoothing: float = 0.16, phrasings: int | None = None
) -> Sample:
    """Lettered options for one task; ``phrasings``: only so many of its phrasings."""
    value, names = labels.classes[task], range(len(TASKS[task]))
    options = [(wording.option_text(task, i), i) for i in names]
    keep_order = rng.random() < (0.7 if task in ORDERED else 0.5)
    if not keep_order:
        rng.shuffle(options)
        if len(options) > 3 and task not in ("gender", "race") and rng.random() < 0.5:
            options = _four_options(options, value, rng)
    texts = tuple(text for text, _ in options)
    keys = choice_keys(texts)
    by_class = {index: key for key, (_, index) in zip(keys, options, strict=True)}
    right = by_class.get(value, keys[-1])
    soft: dict[str, float] = {}
    if task == "age" and value in by_class:
        near = [by_class[i] for i in (value - 1, value + 1) if i in by_class]
        soft = {key: age_smoothing / len(near) for key in near}
    return Sample(task, "letters", user_text(rng.choice(wording.ASK[task][:phrasings]), texts), right, soft)


def _four_options(options: list[tuple[str, int]], value: int, rng: Random) -> list[tuple[str, int]]:
    """Three classes and "None of the above"; the right class is among them three times in four."""
    right = [item for item in options if item[1] == value]
    wrong = [item for item in options if item[1] != value]
    kept = (right + wrong[:2]) if rng.random() < 0.75 else wrong[:3]
    rng.shuffle(kept)
    return [*kept, (NONE_OF_THE_ABOVE, -1)]


def yes_no(task: str, labels: FaceLabels, rng: Random) -> Sample:
    """A yes/no question answered by "Yes, …" or "No, …" with what is seen."""
    phrasings, yes = rng.choice(wording.YES_NO[task])
    name = TASKS[task][labels.classes[task]]
    word = "Yes" if name in yes else "No"
    return Sample(task, "yes/no", rng.choice(phrasings), f"{word}, {wording.SAY[task][name]}.")


def short(task: str, labels: FaceLabels, rng: Random) -> Sample:
    """The class name alone, the options being listed in the question half of the time."""
    names = [wording.option_text(task, i) for i in range(len(TASKS[task]))]
    listed = list(names)
    rng.shuffle(listed)
    question = rng.choice(wording.ASK[task])
    if rng.random() < 0.5:
        question += f" Answer {', '.join(listed[:-1])} or {listed[-1]}."
        return Sample(task, "short", question, names[labels.classes[task]])
    answer = _sentence(wording.SAY[task][TASKS[task][labels.classes[task]]]) if task in wording.SAY else ""
    return Sample(task, "short", question, answer or names[labels.classes[task]])


def open_aspect(key: str, labels: FaceLabels, rng: Random) -> Sample | None:
    """Sentences on one aspect from what is known; ``None`` when too little is known."""
    known = [task for task in wording.ASPECT_TASKS[key] if task in labels.classes]
    if len(known) < 2 and not (key == "skin" and known[:1] == ["facial_hair"]):
        return None
    if key == "skin" and "facial_hair" not in known:
        return None
    if key in ("attributes", "forensic", "detail") and "glasses" not in known:
        return None
    clauses = [
        wording.SAY[task][TASKS[task][labels.classes[task]]] for task in known if _worth_saying(task, key, labels)
    ]
    question = aspect(key).question if rng.random() < 0.5 else rng.choice(wording.ASPECT_PHRASINGS[key])
    return Sample(key, "aspect", question, join_clauses(clauses))


def _worth_saying(task: str, key: str, labels: FaceLabels) -> bool:
    """A whole description leaves out what is absent or ordinary; an aspect of its own says it."""
    name = TASKS[task][labels.classes[task]]
    if key == "detail":
        return not (
            (task in ("facial_hair", "headwear") and name == "none") or (task == "sharpness" and name == "soft")
        )
    if key == "structure":
        return not (task == "headwear" and name == "none")
    return True


def join_clauses(clauses: list[str]) -> str:
    """Clauses into sentences of at most two clauses."""
    pairs = [clauses[i : i + 2] for i in range(0, len(clauses), 2)]
    return " ".join(_sentence(" and ".join(pair)) for pair in pairs)


def _sentence(clause: str) -> str:
    return clause[0].upper() + clause[1:] + "."


def as_json(labels: FaceLabels, rng: Random) -> Sample | None:
    """Some known tasks as one JSON object."""
    known = [task for task in wording.JSON_KEYS if task in labels.classes]
    if len(known) < 3:
        return None
    tasks = rng.sample(known, rng.randint(2, min(4, len(known))))
    keys = [wording.JSON_KEYS[task] for task in tasks]
    answer = {key: TASKS[task][labels.classes[task]] for key, task in zip(keys, tasks, strict=True)}
    return Sample("json", "json", f"Answer as JSON with the keys {', '.join(keys)}.", json.dumps(answer))


def unseen(rng: Random) -> Sample:
    """A question that no face crop answers."""
    return Sample("unseen", "unseen", rng.choice(wording.UNSEEN_QUESTIONS), wording.UNSEEN_ANSWER)


def boost_of(labels: Iterable[FaceLabels]) -> dict[str, tuple[float, ...]]:
    """Ask more about what is rare: the inverse root of each class's share, scaled to a mean of 1 over the pictures.

    Without it hats and beards were guessed absent after 4,800 pictures: to say so was right four times in five.
    """
    counts: dict[str, Counter[int]] = {task: Counter() for task in TASKS}
    for face in labels:
        for task, value in face.classes.items():
            counts[task][value] += 1
    boost = {}
    for task, count in counts.items():
        shares = [count[index] / max(count.total(), 1) for index in range(len(TASKS[task]))]
        mean = sum(share**0.5 for share in shares)
        boost[task] = tuple(share**-0.5 / mean if share else 0.0 for share in shares)
    return boost


def _often(task: str, labels: FaceLabels, boost: Boost) -> float:
    return boost[task][labels.classes[task]] if task in boost else 1.0


def plain_questions(labels: FaceLabels, rng: Random, count: int, boost: Boost = NO_BOOST) -> list[Sample]:
    """Up to ``count`` questions in their plainest form: the first phrasing, answered by one class name or letter.

    With options whose order changes neither the letter nor the picture tells anything alone; a model that sees
    only such questions learns nothing for a long time. Class names, and options in their usual order, show it
    first that pictures matter.
    """
    samples = []
    for task in PLAIN:
        if task not in labels.classes:
            continue
        always, often = task in ALWAYS, _often(task, labels, boost)
        # Race is asked for in letters alone, so that no answer in words ever names it.
        if task != "race" and rng.random() < (0.9 if always else 0.45 * often):
            name = wording.option_text(task, labels.classes[task])
            samples.append(Sample(task, "short", wording.ASK[task][0], name))
        if rng.random() < (0.8 if always else 0.35 * often):
            samples.append(closed(task, labels, rng, phrasings=1))
    rng.shuffle(samples)
    return samples[:count]


def questions_for(labels: FaceLabels, rng: Random, count: int, boost: Boost = NO_BOOST) -> list[Sample]:
    """About ``count`` different questions about one picture, four of them not lettered; age is mostly among those."""
    closed_tasks = [task for task in CLOSED_WEIGHT if task in labels.classes]
    chosen = {task for task, share in ALWAYS.items() if rng.random() < share}
    weights = [CLOSED_WEIGHT[task] * _often(task, labels, boost) for task in closed_tasks]
    while len(chosen) < min(count - 4, len(closed_tasks)):
        chosen.add(rng.choices(closed_tasks, weights)[0])
    samples = [closed(task, labels, rng) for task in sorted(chosen)]
    yes_no_tasks = [task for task in wording.YES_NO if task in labels.classes]
    yes_no_weights = [_often(task, labels, boost) for task in yes_no_tasks]
    makers: list[Callable[[], Sample | None]] = [
        *(lambda: yes_no(rng.choices(yes_no_tasks, yes_no_weights)[0], labels, rng) for _ in range(2)),
        lambda: open_aspect(rng.choice(ASPECTS).key, labels, rng),
        rng.choice(
            [
                lambda: short(rng.choice([t for t in closed_tasks if t != "race"]), labels, rng),
                lambda: as_json(labels, rng),
                lambda: open_aspect("detail", labels, rng),
                lambda: unseen(rng) if rng.random() < 0.5 else None,
            ]
        ),
    ]
    samples += [sample for make in makers if (sample := make()) is not None]
    different = list({sample.text: sample for sample in samples}.values())
    rng.shuffle(different)
    return different
