"""LoRA training on this machine, with and without each optimisation. The last line is JSON.

    python3 run.py setup training && python3 run.py python benchmarks/train.py [--small] [--out FILE]

Samples and tokens a second, memory and utilisation of a model of InternVL3-1B's shape with random weights, on
conversations of FairFaceGPT's lengths about random pictures of FairFace's size. Each way runs in a process of its own,
one after the other, and takes whole steps of the paper's batch of 80. The last way is a plain transformers Trainer with
the paper's settings: padded batches, gradient checkpointing, pictures decoded and the whole head computed every time.
Seconds are medians over the steps after the first ones.

Utilisation: the arithmetic that the method needs (``lora/flops.py``; padding and repeated work count nothing) by the
device's peak; none for a device whose peak is not in the table. ``--small``: a tiny shape, on a processor in a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from _plain_trainer import trainer_steps
from _random_internvl import prepared

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), *(str(ROOT / part) for part in ("desktop", "converters", "training"))]

if TYPE_CHECKING:
    from facellm_training.lora.recipe import LoraRecipe
    from facellm_training.lora.session import Session

#: Name → what differs from the first way: settings of ``speed``; "images": the cache of pictures.
WAYS: dict[str, dict[str, Any]] = {
    "all": {},
    "not compiled": {"compiled": False},
    "PyTorch's attention": {"attention": "sdpa"},
    "flex attention, one row": {"attention": "flex_attention", "row_tokens": 8192, "rows": 1},
    "twice the tokens a pass": {"rows": 8},
    "padded": {"packing": False, "compiled": False},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "pictures decoded each time": {"images": False},
    "image tower LoRA too": {"tower": True, "gradient_checkpointing": True},
}
PLAIN = "plain Trainer"
#: Steps that compile and warm up.
FIRST = 3


def main() -> int:
    """Run each way in a child and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a tiny shape")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--micro-batch", type=int, default=8, help="conversations a pass where nothing is packed")
    parser.add_argument("--compiled", action=argparse.BooleanOptionalAction, help="default: on CUDA only")
    parser.add_argument("--ways", nargs="*", choices=[*WAYS, PLAIN], default=[*WAYS, PLAIN])
    parser.add_argument("--out", type=Path, help="the last line also here")
    parser.add_argument("--way", choices=[*WAYS, PLAIN], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options)))
        return 0
    found: dict[str, Any] = {}
    for way in options.ways:
        command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            found[way] = {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
        else:
            found[way] = json.loads(done.stdout.splitlines()[-1])
        print(f"{way}: {found[way]}", file=sys.stderr)
    line = json.dumps(summary(found, options))
    print(line)
    if options.out:
        options.out.write_text(line + "\n", encoding="utf-8")
    return 0


def summary(found: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Where it ran, all ways, and the speed of each as a multiple of the plain Trainer's."""
    import torch

    from facellm_training.lora.flops import peak
    from facellm_training.lora.record import record

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    about = record({}, "", 1)
    known = peak(name)
    plain = found.get(PLAIN, {}).get("samples_per_s")
    return {
        "device": name, "peak_flops": known[0] if known else None, "peak_source": known[1] if known else None,
        "shape": "tiny" if options.small else "InternVL3-1B", "versions": about["versions"], "commit": about["commit"],
        "ways": found,
        "times_plain_trainer": {
            way: round(one["samples_per_s"] / plain, 2) for way, one in found.items() if plain and "failed" not in one
        },
    }  # fmt: skip


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One way, in this process."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        session = prepared(recipe_of(options, Path(folder)), Path(folder), small=options.small)
        if options.way == PLAIN:
            seconds = trainer_steps(session, options.micro_batch, FIRST + options.steps)
        else:
            from facellm_training.lora import loop, state

            loop.run(session)
            seconds = [row["seconds"] for row in state.rows(session.out)]
        return row(session, seconds, torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None)


def row(session: Session, seconds: list[float], memory: int | None) -> dict[str, Any]:
    """The numbers of a way. ``seconds`` of each step."""
    import torch

    from facellm_training.lora.flops import peak, work

    took = median(seconds[FIRST:])
    encoded = session.corpus.train.encoded
    batch = session.recipe.optimiser.batch
    share = batch / len(encoded)
    tokens = sum(len(one) for one in encoded) * share
    needed = share * work(session.accelerator.unwrap_model(session.model)).of(
        [len(one) for one in encoded], sum(one.supervised for one in encoded), sum(one.pictures for one in encoded)
    )
    known = peak(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
    return {
        "samples_per_s": round(batch / took, 2), "tokens_per_s": round(tokens / took),
        "seconds_a_step": round(took, 4), "memory_gib": round(memory / 2**30, 2) if memory else None,
        "tflops": round(needed / took / 1e12, 4), "utilisation": round(needed / took / known[0], 4) if known else None,
    }  # fmt: skip


def recipe_of(options: argparse.Namespace, folder: Path) -> LoraRecipe:
    """The way's settings."""
    import torch

    from facellm_training.lora.recipe import Data, Evaluation, LoraRecipe, Optimiser, Part, Speed

    cuda = torch.cuda.is_available()
    compiled = cuda if options.compiled is None else options.compiled
    speed: dict[str, Any] = {
        "precision": "bf16" if cuda else "fp32", "compiled": compiled, "gradient_checkpointing": False,
        "micro_batch": options.micro_batch, "row_tokens": 256 if options.small else 2048, "rows": 4,
    }  # fmt: skip
    if options.way == PLAIN:
        speed |= {"gradient_checkpointing": True, "compiled": False, "attention": "sdpa"}
    change = dict(WAYS.get(options.way, {}))
    images, tower = change.pop("images", options.way != PLAIN), change.pop("tower", False)
    if options.small and "row_tokens" in change:
        change["row_tokens"] = 1024
    change["compiled"] = compiled and change.get("compiled", speed["compiled"])
    data = Data(folder, image_cache=images, workers=min(8, os.cpu_count() or 1) if cuda else 0)
    return LoraRecipe(
        "random", folder / "out", data, language=Part(16, 32.0, 1e-5),
        image_tower=Part(16, 32.0, 1e-5) if tower else Part(),
        optimiser=Optimiser(batch=8 if options.small else 80, epochs=float(FIRST + options.steps)),
        speed=Speed(**(speed | change)), evaluation=Evaluation(every=0), save_every=10**9,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
