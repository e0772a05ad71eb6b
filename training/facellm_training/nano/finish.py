"""What follows training: the pair, its calibration on held-out train pictures, its measurement, and its model card.

Each measurement lies in a folder named by the trained state, so that a killed run goes on and a newly
trained one begins anew. Race is asked only with the research switch on (docs/privacy.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from facellm.engine.client import EngineClient
from facellm.models.nano.build import build_nano
from facellm.models.store import AssetStore
from facellm_training.evaluate.card import card
from facellm_training.evaluate.closed import labelled
from facellm_training.evaluate.descriptions import evaluate_descriptions
from facellm_training.evaluate.fairface import FairFaceRun, calibrate, evaluate_fairface, pictures
from facellm_training.nano.recipe import NanoRecipe

#: Pictures whose faces are swapped, and that are described: enough for intervals of ± 5 and ± 2 points.
SWAPPED, DESCRIBED = 300, 200


def finish(recipe: NanoRecipe, write: Callable[[float], Path], store: AssetStore) -> Path:
    """Measure and describe the model whose deltas ``write(temperature)`` writes; returns their path."""
    state = hashlib.sha256((recipe.out / "language.pt").read_bytes()).hexdigest()
    folder = recipe.out / f"measured-{state[:12]}"
    folder.mkdir(exist_ok=True)
    plain = build_nano(store, out=folder / "uncalibrated", deltas=write(1.0))
    held_out = FairFaceRun(
        recipe.data, folder / "calibration", recipe.out / "measured-train.jsonl", "train", only_labelled=True
    )
    temperature = calibrate(plain, held_out)
    deltas = write(temperature)
    package = build_nano(store, out=recipe.out / "model", deltas=deltas)
    validation = FairFaceRun(recipe.data, folder / "validation", recipe.out / "measured-validation.jsonl")
    report = evaluate_fairface(package, validation)
    report["temperature"] = temperature
    report["swapped"] = evaluate_fairface(package, _but(validation, folder / "swapped", swapped=True))
    with EngineClient(package) as client:
        labels = labelled(recipe.data, "validation", validation.measured)
        tally = evaluate_descriptions(client, pictures(_but(validation, folder, limit=DESCRIBED), labels), labels)
    report["descriptions"] = tally.report()
    report["image stage"] = json.loads((recipe.out / "image-heldout.json").read_text())
    (folder / "descriptions.jsonl").write_text("".join(json.dumps(text) + "\n" for text in tally.texts))
    (folder / "report.json").write_text(json.dumps(report, indent=1))
    (recipe.out / "card.md").write_text(card(report), encoding="utf-8")
    return deltas


def _but(run: FairFaceRun, out: Path, *, swapped: bool = False, limit: int = SWAPPED) -> FairFaceRun:
    return FairFaceRun(run.data, out, run.measured, run.split, limit, only_labelled=True, swapped=swapped)
