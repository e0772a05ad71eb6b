"""What each quantisation costs on one checkpoint: bits, divergence from the checkpoint, answers. The last line is JSON.

    python3 run.py bench convert_costs [CHECKPOINT] [--sources FOLDER] [--work FOLDER]

Without a checkpoint: InternVL3-1B's shapes with random weights, whose answers are nearly undecided, so that the shares
of equal tokens are lower than any trained model's. The mmproj is F16 throughout, and once Q8_0.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _converting import OURS, fetched
from _shapes import write_checkpoint

KINDS = (
    ("F16", "F16"), ("Q8_0", "F16"), ("Q6_K", "F16"), ("Q5_K_M", "F16"), ("Q4_K_M", "F16"), ("IQ4_XS", "F16"),
    ("Q8_0", "Q8_0"),
)  # fmt: skip


def main() -> int:
    """Convert and compare, print a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", type=Path)
    parser.add_argument("--sources", type=Path, help="llama.cpp's sources (default: fetched)")
    parser.add_argument("--work", type=Path, help="where to work (default: a temporary folder, about 6 GB)")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        work = Path(folder)
        checkpoint = options.checkpoint
        if checkpoint is None:
            checkpoint = work / "checkpoint"
            sources = options.sources or fetched(work / "sources")
            write_checkpoint(checkpoint, sources / "models" / "ggml-vocab-qwen2.gguf")
        for kind, mmproj in KINDS:
            rows.append(cost(checkpoint, work / "out", kind, mmproj))
            print(json.dumps(rows[-1]), flush=True)
    print(json.dumps(rows))
    return 0


def cost(checkpoint: Path, out: Path, kind: str, mmproj: str) -> dict[str, object]:
    """One row."""
    begun = time.monotonic()
    done = facellm("convert", str(checkpoint), "--out", str(out), "--quant", kind, "--mmproj-quant", mmproj, "--force",
                   "--verify")  # fmt: skip
    seconds = time.monotonic() - begun
    about = facellm("inspect", str(done["language"]))
    found = done["equality"]
    assert isinstance(found, dict)
    return {
        "quant": kind, "mmproj": mmproj, "bits": about["bits_a_weight"], "cosine": found["cosine_mean"],
        "divergence": found["divergence_mean"], "same_token": found["agreement"], "letters": found["letters"],
        "letters_shift": found["letters_shift"], "equal": found["equal"], "seconds": round(seconds, 1),
    }  # fmt: skip


def facellm(*words: str) -> dict[str, object]:
    """What the command says as JSON; a pair that is not equal is a result, too."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, OURS))}
    command = [sys.executable, "-m", "facellm.cli.app", *words, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise SystemExit(done.stderr)
    found: dict[str, object] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    sys.exit(main())
