"""Measures pose, eyes and light of every FairFace crop once, with the product's own face finder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from facellm.models.store import AssetStore
from facellm.vision.finder import FaceFinder, FaceModels
from facellm_training.data.fairface import read_fairface


def measure_split(root: Path, split: str, out: Path, store: AssetStore) -> None:
    """Write one JSON object a picture (``core.faces.Facts`` and its file name). Resumes where it stopped."""
    done = sum(1 for _ in out.open(encoding="utf-8")) if out.exists() else 0
    models = FaceModels(store.ensure("face-landmarker"), store.ensure("yunet"))
    with FaceFinder(models) as finder, out.open("a", encoding="utf-8") as lines:
        for number, item in enumerate(read_fairface(root, split)):
            if number < done:
                continue
            facts, _ = finder.measure_crop(item.pixels())
            known = {name: round(value, 4) for name, value in asdict(facts).items() if value is not None}
            lines.write(json.dumps({"file": item.file} | known) + "\n")
            if number % 2000 == 1999:
                lines.flush()
                print(f"measured {split} {number + 1}", flush=True)
