"""What the nano's model card is measured with: closed questions on FairFace through the engine, resumable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facellm.core.faces import RgbImage
from facellm.core.package import ModelPackage
from facellm.engine.client import EngineClient
from facellm.engine.protocol import EngineOptions
from facellm_training.data.fairface import read_fairface
from facellm_training.data.labels import FaceLabels, held_out
from facellm_training.evaluate.backends import file_sha256
from facellm_training.evaluate.closed import EVERY_PICTURE, WEAK, Prediction, labelled, predict, read_predictions
from facellm_training.evaluate.report import fit_temperature


@dataclass(frozen=True, slots=True)
class FairFaceRun:
    """``split`` "validation" for measuring, "train" for calibration (held-out pictures only). ``limit`` pictures.

    ``swapped``: every picture is asked the questions of another one; what is then still right was never seen.
    """

    data: Path
    out: Path
    measured: Path
    split: str = "validation"
    limit: int | None = None
    only_labelled: bool = False
    swapped: bool = False
    tasks: tuple[str, ...] = EVERY_PICTURE + WEAK


def ask_fairface(
    package: ModelPackage, run: FairFaceRun, labels: dict[str, FaceLabels], options: EngineOptions | None = None
) -> tuple[list[Prediction], dict[str, Any]]:
    """Ask what ``out/answers.jsonl`` does not hold yet; all its answers, and what answered."""
    run.out.mkdir(parents=True, exist_ok=True)
    answers = run.out / "answers.jsonl"
    with EngineClient(package, options) as client:
        asked = pictures(run, labels)
        predict(client, swap(asked) if run.swapped else asked, labels, answers, run.tasks)
        info = client.load()
    model = {
        "name": package.name, "runtime": info.runtime, "device": info.device,
        "llm_sha256": file_sha256(package.llm), "mmproj_sha256": file_sha256(package.mmproj),
    }  # fmt: skip
    return read_predictions(answers), model


def calibrate(package: ModelPackage, run: FairFaceRun) -> float:
    """The temperature of choice probabilities that fits the pictures of ``run``; ``package`` must have 1.0."""
    predictions, _ = ask_fairface(package, run, labelled(run.data, run.split, run.measured))
    return round(fit_temperature(predictions), 4)


def swap(pictures: Iterator[tuple[str, RgbImage]]) -> Iterator[tuple[str, RgbImage]]:
    """Each file with the pixels of the next one, the last with the first's."""
    first: RgbImage | None = None
    before = ""
    for file, pixels in pictures:
        if first is None:
            first = pixels
        else:
            yield before, pixels
        before = file
    if first is not None:
        yield before, first


def pictures(run: FairFaceRun, labels: dict[str, FaceLabels]) -> Iterator[tuple[str, RgbImage]]:
    """Files and pixels of the pictures that ``run`` asks about."""
    count = 0
    for item in read_fairface(run.data, run.split):
        if run.split == "train" and not held_out(item.file):
            continue
        if run.only_labelled and "glasses" not in labels[item.file].classes:
            continue
        if run.limit is not None and count >= run.limit:
            return
        count += 1
        yield item.file, item.pixels()
