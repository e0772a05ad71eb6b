"""Questions about two or three pictures at once: which, how many, who looks older."""

from __future__ import annotations

from random import Random

from facellm.core.prompt import choice_keys, user_text
from facellm_training.data.labels import TASKS, FaceLabels
from facellm_training.data.questions import NONE_OF_THE_ABOVE, Sample

PLACES = ("Image 1", "Image 2", "Image 3")

#: (task, class, how it is said of a picture)
FEATURES: tuple[tuple[str, str, str], ...] = (
    ("gender", "male", "shows a person who looks male"),
    ("gender", "female", "shows a person who looks female"),
    ("glasses", "eyeglasses", "shows a person with eyeglasses"),
    ("glasses", "sunglasses", "shows a person with sunglasses"),
    ("smile", "broad", "shows a broad smile"),
    ("headwear", "none", "shows a bare head"),
    ("facial_hair", "beard", "shows a beard"),
    ("mouth", "closed", "shows a closed mouth"),
    ("hair_color", "black", "shows black hair"),
)


def older(faces: list[FaceLabels], rng: Random) -> Sample | None:
    """Who looks older (or younger); ``None`` where the labels do not tell."""
    ages = [face.classes["age"] for face in faces]
    eldest = rng.random() < 0.5
    best = max(ages) if eldest else min(ages)
    if ages.count(best) != 1:
        return None
    word = ("oldest" if eldest else "youngest") if len(faces) > 2 else ("older" if eldest else "younger")
    places = PLACES[: len(faces)]
    text = user_text(f"Which person looks {word}?", places)
    return Sample("compare age", "letters", text, choice_keys(places)[ages.index(best)])


def which(faces: list[FaceLabels], rng: Random) -> Sample | None:
    """Which one picture has a feature, with "None of the above"."""
    task, name, said = rng.choice(FEATURES)
    if any(task not in face.classes for face in faces):
        return None
    has = [face.classes[task] == TASKS[task].index(name) for face in faces]
    if sum(has) > 1:
        return None
    options = (*PLACES[: len(faces)], NONE_OF_THE_ABOVE)
    right = has.index(True) if any(has) else len(faces)
    text = user_text(f"Which image {said}?", options)
    return Sample("compare which", "letters", text, choice_keys(options)[right])


def how_many(faces: list[FaceLabels], rng: Random) -> Sample | None:
    """How many of the pictures have a feature."""
    task, name, said = rng.choice(FEATURES)
    if any(task not in face.classes for face in faces):
        return None
    number = sum(face.classes[task] == TASKS[task].index(name) for face in faces)
    options = [str(i) for i in range(len(faces) + 1)]
    text = user_text(f"How many of the images {said.replace('shows', 'show', 1)}?", tuple(options))
    return Sample("compare count", "letters", text, choice_keys(tuple(options))[number])


def comparisons(faces: list[FaceLabels], rng: Random, count: int) -> list[Sample]:
    """Up to ``count`` comparisons of two or three pictures."""
    samples: list[Sample] = []
    for _ in range(3 * count):
        sample = rng.choice((older, which, how_many))(faces, rng)
        if sample is not None and sample.text not in {other.text for other in samples}:
            samples.append(sample)
        if len(samples) == count:
            break
    return samples
