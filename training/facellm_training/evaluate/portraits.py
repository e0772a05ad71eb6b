"""``facellm evaluate portraits``: labelled portraits the product's whole way, from the file through finder and crop."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from facellm.core.ask import Question
from facellm.core.package import ModelPackage
from facellm.engine.client import EngineClient
from facellm.models.store import AssetStore
from facellm.vision.crop import face_tile
from facellm.vision.decode import load_photo
from facellm.vision.finder import FaceFinder, FaceModels
from facellm_training.evaluate.closed import closed_question
from facellm_training.evaluate.metrics import mean_score

SMILING = Question("Is this person smiling?", ("yes", "no"))


def evaluate_portraits(package: ModelPackage, data: Path, store: AssetStore) -> dict[str, Any]:
    """Portraits in ``data`` with a ``labels.csv`` of ``file``, ``gender`` and, where known, ``expression``.

    Returns scores for ``faces`` (exactly one was found), ``smiling or neutral``, and ``gender``. Nothing is stored.
    """
    with (data / "labels.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    models = FaceModels(store.ensure("face-landmarker"), store.ensure("yunet"))
    right: dict[str, list[float]] = {"one face found": [], "smiling or neutral": [], "gender": []}
    with FaceFinder(models) as finder, EngineClient(package) as client:
        for row in rows:
            photo = load_photo(data / row["file"])
            faces = finder.find(photo)
            right["one face found"].append(float(len(faces) == 1))
            if not faces:
                continue
            largest = max(faces, key=lambda face: face.box.w)
            tile = face_tile(photo, largest, package.tile)
            smile, gender = client.choose((tile,), [SMILING, closed_question("gender")])
            right["gender"].append(float(gender.text == row["gender"]))
            if row.get("expression") in ("neutral", "smiling"):
                said = "smiling" if smile.text == "yes" else "neutral"
                right["smiling or neutral"].append(float(said == row["expression"]))
    return {name: asdict(mean_score(np.array(values))) for name, values in right.items() if values}
