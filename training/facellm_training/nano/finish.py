"""What follows training: the pair, its calibration on held-out train pictures, its measurement, and its model card.

Each measurement lies in a folder named by the trained state, so that a killed run goes on and a newly
trained one begins anew. Race is asked only with the research switch on (docs/privacy.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facellm.core.package import ModelPackage
from facellm.engine.client import EngineClient
from facellm.models.nano.build import build_nano
from facellm.models.store import AssetStore
from facellm_training.evaluate.card import card
from facellm_training.evaluate.closed import EVERY_PICTURE, WEAK, labelled
from facellm_training.evaluate.descriptions import evaluate_descriptions
from facellm_training.evaluate.fairface import FairFaceRun, ask_fairface, calibrate, pictures
from facellm_training.evaluate.report import score_tasks

if TYPE_CHECKING:
    from facellm_training.nano.recipe import NanoRecipe

#: Asked with another face in its place; one question of each kind is enough.
SWAPPED_TASKS = ("age", "gender", "glasses", "smile", "headwear")


@dataclass(frozen=True, slots=True)
class Measure:
    """How many pictures are measured on, the first ones in file order; ``None``: all there are.

    ``calibration``: labelled held-out train pictures for the temperature. Of validation: ``pictures`` for what
    every picture has a label of, ``labelled`` for the weak attributes, ``swapped`` and ``described`` of those.
    """

    calibration: int | None = 120
    pictures: int | None = None
    labelled: int | None = None
    swapped: int | None = 150
    described: int | None = 200


def finish(recipe: NanoRecipe, write: Callable[[float], Path], store: AssetStore) -> Path:
    """Measure and describe the model whose deltas ``write(temperature)`` writes; returns their path."""
    state = hashlib.sha256((recipe.out / "language.pt").read_bytes()).hexdigest()
    folder = recipe.out / f"measured-{state[:12]}"
    folder.mkdir(exist_ok=True)
    plain = build_nano(store, out=folder / "uncalibrated", deltas=write(1.0))
    train = FairFaceRun(recipe.data, folder / "calibration", recipe.out / "measured-train.jsonl", "train")
    temperature = calibrate(plain, replace(train, limit=recipe.measure.calibration, only_labelled=True))
    deltas = write(temperature)
    package = build_nano(store, out=recipe.out / "model", deltas=deltas)
    report = measure(recipe, package, folder) | {"temperature": temperature}
    report["image stage"] = json.loads((recipe.out / "image-heldout.json").read_text())
    (folder / "report.json").write_text(json.dumps(report, indent=1))
    (recipe.out / "card.md").write_text(card(report), encoding="utf-8")
    return deltas


def measure(recipe: NanoRecipe, package: ModelPackage, folder: Path) -> dict[str, Any]:
    """Everything that the card says of the finished pair, on FairFace's validation split."""
    sizes = recipe.measure
    run = FairFaceRun(recipe.data, folder, recipe.out / "measured-validation.jsonl")
    labels = labelled(run.data, run.split, run.measured)
    weak = replace(run, only_labelled=True, limit=sizes.labelled)
    attributes, model = ask_fairface(package, replace(weak, out=folder / "labelled", tasks=WEAK), labels)
    every = replace(run, out=folder / "every", limit=sizes.pictures, tasks=EVERY_PICTURE)
    report = score_tasks(ask_fairface(package, every, labels)[0] + attributes, labels) | {"model": model}
    swapped = replace(weak, out=folder / "swapped", limit=sizes.swapped, swapped=True, tasks=SWAPPED_TASKS)
    report["swapped"] = score_tasks(ask_fairface(package, swapped, labels)[0], labels)
    with EngineClient(package) as client:
        tally = evaluate_descriptions(client, pictures(replace(weak, limit=sizes.described), labels), labels)
    (folder / "descriptions.jsonl").write_text("".join(json.dumps(text) + "\n" for text in tally.texts))
    return report | {"descriptions": tally.report()}
