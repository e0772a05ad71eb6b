"""Everything known about one picture, as class indices: FairFace's labels, weak attributes, measurements.

Three sources of unequal worth. FairFace's age, gender and race are crowd labels. Attributes are
weak labels written by a multimodal model from the crops; what two annotators do not agree on is
dropped here. Pose, eyes and light are measured on landmarks and pixels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facellm_training.data.fairface import AGES, GENDERS, RACES

#: Classes of each task, in label order.
TASKS: dict[str, tuple[str, ...]] = {
    "age": AGES,
    "gender": GENDERS,
    "race": RACES,
    "glasses": ("none", "eyeglasses", "sunglasses"),
    "facial_hair": ("none", "stubble", "moustache or goatee", "beard"),
    "smile": ("none", "slight", "broad"),
    "mouth": ("closed", "teeth", "open"),
    "hair_color": ("black", "brown", "blond", "grey or white", "red", "covered"),
    "hair_length": ("short", "medium", "long", "tied", "covered"),
    "headwear": ("none", "cap", "hat", "headscarf", "other"),
    "expression": ("neutral", "happy", "speaking", "other"),
    "background": ("plain", "outdoor", "indoor", "crowd"),
    "yaw": ("left", "frontal", "right"),
    "turn": ("far left", "slightly left", "frontal", "slightly right", "far right"),
    "pitch": ("up", "level", "down"),
    "eyes": ("open", "closed"),
    "brightness": ("dark", "normal", "bright"),
    "sharpness": ("blurred", "soft", "sharp"),
}

#: Weak labels under their normalised class names; a value not listed is unknown.
_ATTRIBUTE_VALUES: dict[str, dict[str, str]] = {
    "glasses": {"none": "none", "eyeglasses": "eyeglasses", "sunglasses": "sunglasses", "goggles": "sunglasses"},
    "facial_hair": {
        "none": "none",
        "stubble": "stubble",
        "moustache": "moustache or goatee",
        "goatee": "moustache or goatee",
        "beard": "beard",
    },
    "smile": {"none": "none", "slight": "slight", "broad": "broad"},
    "mouth": {"closed": "closed", "teeth": "teeth", "open": "open"},
    "hair_color": {
        "black": "black",
        "brown": "brown",
        "blond": "blond",
        "grey": "grey or white",
        "white": "grey or white",
        "red": "red",
        "covered": "covered",
    },
    "hair_length": {name: name for name in TASKS["hair_length"]},
    "headwear": {
        "none": "none",
        "cap": "cap",
        "hat": "hat",
        "headscarf": "headscarf",
        "turban": "other",
        "hood": "other",
        "helmet": "other",
        "headband": "other",
        "other": "other",
    },
    "expression": {
        "neutral": "neutral",
        "happy": "happy",
        "speaking": "speaking",
        "sad": "other",
        "angry": "other",
        "surprised": "other",
        "fearful": "other",
        "disgusted": "other",
    },
    "background": {name: name for name in TASKS["background"]},
}

#: Degrees of yaw: within ± 15 a head counts as frontal; beyond 40 as far turned.
FRONTAL_YAW, FAR_YAW = 15.0, 40.0
#: Degrees of pitch that count as level. FairFace's median pitch on landmarks is near 0.
LEVEL_PITCH = 15.0
#: Mean luma / 255; FairFace's 10th and 92nd percentile.
DARK, BRIGHT = 0.25, 0.58
#: Variance of the Laplacian of luma on a 224 px crop; FairFace's quartiles.
BLURRED, SHARP = 15.0, 75.0
#: One minus the mean of both eyeBlink blendshapes; what lies between is not asked.
CLOSED_EYES, OPEN_EYES = 0.45, 0.65


@dataclass(frozen=True, slots=True)
class FaceLabels:
    """``classes``: task → index into ``TASKS[task]`` (missing: unknown)."""

    file: str
    view: int
    classes: dict[str, int]
    measured: dict[str, float] = field(default_factory=dict)
    description: str = ""


def attribute_classes(row: dict[str, Any]) -> dict[str, int]:
    """Normalise one line of ``attributes-*.jsonl``."""
    classes: dict[str, int] = {}
    for task, values in _ATTRIBUTE_VALUES.items():
        name = values.get(row.get(task, ""))
        if name is not None:
            classes[task] = TASKS[task].index(name)
    return classes


def measured_classes(row: dict[str, float], *, mirrored: bool = False) -> dict[str, int]:
    """Classes from measurements; ``mirrored`` for a flipped view, whose light was changed as well."""
    classes: dict[str, int] = {}
    if "yaw" in row:
        yaw = -row["yaw"] if mirrored else row["yaw"]
        classes["yaw"] = 1 if abs(yaw) < FRONTAL_YAW else (2 if yaw > 0 else 0)
        far = 2 if abs(yaw) >= FAR_YAW else 1
        classes["turn"] = 2 if abs(yaw) < FRONTAL_YAW else (2 + far if yaw > 0 else 2 - far)
        classes["pitch"] = 1 if abs(row["pitch"]) < LEVEL_PITCH else (0 if row["pitch"] > 0 else 2)
        if not CLOSED_EYES <= row["eyes_open"] <= OPEN_EYES:
            classes["eyes"] = int(row["eyes_open"] < CLOSED_EYES)
    if not mirrored:
        classes["brightness"] = (row["brightness"] >= DARK) + (row["brightness"] > BRIGHT)
        classes["sharpness"] = (row["sharpness"] >= BLURRED) + (row["sharpness"] > SHARP)
    return classes


def read_by_file(path: Path) -> dict[str, dict[str, Any]]:
    """A JSON-lines file as a table by its ``file`` field."""
    with path.open(encoding="utf-8") as lines:
        return {row["file"]: row for row in map(json.loads, lines)}


def join_labels(
    items: list[dict[str, Any]], attributes: dict[str, dict[str, Any]], measured: dict[str, dict[str, Any]]
) -> list[FaceLabels]:
    """Labels of each cached row (``file``, ``view``, ``age``, ``gender``, ``race``)."""
    joined = []
    for item in items:
        classes = {task: int(item[task]) for task in ("age", "gender", "race")}
        facts = measured.get(item["file"], {})
        classes |= measured_classes(facts, mirrored=bool(item["view"])) if facts else {}
        row = attributes.get(item["file"])
        if row:
            classes |= attribute_classes(row)
        description = row["description"] if row and not item["view"] else ""
        joined.append(FaceLabels(item["file"], item["view"], classes, facts, description))
    return joined


def held_out(file: str) -> bool:
    """One train picture in twenty is kept for choosing settings, so that validation stays unseen."""
    return int("".join(filter(str.isdigit, file)) or 0) % 20 == 0
