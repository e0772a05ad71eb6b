"""What a training step of the nano costs on this machine. The last line is JSON.

    python3 run.py setup training && python3 run.py python benchmarks/training.py [--steps N] [--threads N]

Both stages at the recipe's batch sizes, on random features and labels, in four ways: as the recipe has it; without
compiled blocks; without glibc keeping freed memory; without both. Each way runs in a process of its own, one after
the other; seconds a picture are medians over the steps after the first ones, ratios are to the recipe's way.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), *(str(ROOT / part) for part in ("desktop", "training"))]

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from facellm_training.data.labels import FaceLabels
    from facellm_training.nano.cache import FeatureCache

#: Name → whether blocks are compiled, whether freed memory is kept.
WAYS = {
    "recipe": (True, True), "not compiled": (False, True), "memory given back": (True, False), "plain": (False, False),
}  # fmt: skip
#: Steps that compile and warm up.
FIRST = 3
PICTURES = 128


def main() -> int:
    """Run each way in a child and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--way", choices=WAYS, help="only this one, in this process")
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(*WAYS[options.way], options.steps, options.threads)))
        return 0
    found = {}
    for way in WAYS:
        numbers = ["--steps", str(options.steps), "--threads", str(options.threads)]
        command = [sys.executable, __file__, "--way", way, *numbers]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[way] = json.loads(done.stdout.splitlines()[-1])
        parts = ", ".join(f"{stage} {value:.3f} s a picture" for stage, value in found[way].items())
        print(f"{way}: {parts}", file=sys.stderr)
    recipe = found["recipe"]
    ratios = {way: {stage: round(row[stage] / recipe[stage], 2) for stage in recipe} for way, row in found.items()}
    print(json.dumps({"threads": options.threads, "seconds_a_picture": found, "ratio_to_recipe": ratios}))
    return 0


def measure(compiled: bool, kept: bool, steps: int, threads: int) -> dict[str, float]:
    """Seconds a picture of both stages."""
    import torch

    from facellm.models.nano import clip_onnx
    from facellm.models.store import AssetStore
    from facellm_training.nano import image_stage, language_stage
    from facellm_training.nano.language import load_language
    from facellm_training.nano.machine import best_device, compile_blocks, keep_memory
    from facellm_training.nano.sequence import Packer

    torch.set_num_threads(threads)
    if kept:
        keep_memory()
    store, first, second = AssetStore(), image_stage.ImageStage(), language_stage.LanguageStage()
    image = image_stage.ImageModel(clip_onnx.read_clip_tower(store.ensure("clip-vit-b16-int8")), first)
    image.to(best_device())
    language, tokenizer = load_language(
        store.ensure("smollm2-135m-q4_1"), rank=second.rank, alpha=second.alpha, bf16=second.bf16
    )
    language.to(best_device())
    if compiled:
        compile_blocks(image.tower.blocks)
        compile_blocks(language.layers)
    cache, labels = faces()

    def image_step(step: int) -> Tensor:
        rows = Random(step).sample(range(PICTURES), first.batch)
        return image_stage.batch_loss(image, cache.read(rows, image.device), [labels[row] for row in rows], first)

    seconds = {"image stage": timed(image_step, steps, first.batch)}
    packer = Packer(tokenizer, language_stage.AGE_WEIGHT)
    model = language_stage.NanoModel(image, language, packer.head, copy.deepcopy(image.projector))
    asking = language_stage.Asking(cache, labels, packer, second, int(tokenizer.eos_token_id), {})

    def language_step(step: int) -> Tensor:
        rng = Random(step)
        return language_stage.step_loss(model, asking, rng.sample(range(PICTURES), second.batch), rng)

    return seconds | {"language stage": timed(language_step, steps, second.batch)}


def timed(loss_of: Callable[[int], Tensor], steps: int, batch: int) -> float:
    """Median seconds a picture of forward and backward."""
    took = []
    for step in range(FIRST + steps):
        begun = time.monotonic()
        loss_of(step).backward()
        took.append((time.monotonic() - begun) / batch)
    return round(median(took[FIRST:]), 4)


def faces() -> tuple[FeatureCache, list[FaceLabels]]:
    """Random features and labels."""
    import numpy as np

    from facellm_training.data.labels import TASKS, FaceLabels
    from facellm_training.nano.cache import FeatureCache

    rng, draw = Random(0), np.random.default_rng(0)
    drawn = [{task: rng.randrange(len(names)) for task, names in TASKS.items()} for _ in range(PICTURES)]
    labels = [FaceLabels("1.jpg", 0, classes) for classes in drawn]
    return FeatureCache(draw.standard_normal((PICTURES, 197, 768)).astype(np.float16), []), labels


if __name__ == "__main__":
    sys.exit(main())
