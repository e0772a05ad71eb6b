"""What each quantisation costs on one checkpoint: bits, divergence from the checkpoint, answers. The last line is JSON.

    python3 run.py bench convert_costs [CHECKPOINT | --nano] [--faces FOLDER] [--sources FOLDER] [--work FOLDER]

Without a checkpoint: InternVL3-1B's shapes with random weights, whose answers are nearly undecided, so that the shares
of equal tokens are lower than any trained model's. ``--nano``: the embedded model as ``facellm checkpoint`` writes it.
The mmproj is F16 throughout, and once Q8_0. ``--faces``: FairFace's parquet and attributes; every pair is asked the
closed questions of N validation pictures with labels besides, and compared with the first, answer by answer. What lies
in ``--work`` is not made again.
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
from _shapes import write_checkpoint as write_shapes

KINDS = (
    ("F16", "F16"), ("Q8_0", "F16"), ("Q6_K", "F16"), ("Q5_K_M", "F16"), ("Q4_K_M", "F16"), ("IQ4_XS", "F16"),
    ("Q8_0", "Q8_0"),
)  # fmt: skip


def main() -> int:
    """Convert and compare, print a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", type=Path)
    parser.add_argument("--sources", type=Path, help="llama.cpp's sources (default: fetched)")
    parser.add_argument("--nano", action="store_true", help="the embedded model's checkpoint")
    parser.add_argument("--faces", type=Path, help="FairFace's folder")
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--work", type=Path, help="where to work (default: a temporary folder, about 6 GB)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work: Path = options.work or Path(folder)
        checkpoint = options.checkpoint or made(work, options)
        rows = []
        for kind, mmproj in KINDS:
            rows.append(cost(checkpoint, work / f"{kind}-{mmproj}", kind, mmproj))
            print(json.dumps(rows[-1]), flush=True)
        if options.faces is not None:
            add_answers(rows, work, options.faces, options.pictures)
    print(json.dumps(rows))
    return 0


def made(work: Path, options: argparse.Namespace) -> Path:
    """The checkpoint that is measured where none is given."""
    checkpoint = work / "checkpoint"
    if (checkpoint / "config.json").exists():
        return checkpoint
    if options.nano:
        from facellm.models.store import AssetStore
        from facellm_training.nano.checkpoint import write_checkpoint

        return write_checkpoint(checkpoint, AssetStore())
    sources = options.sources or fetched(work / "sources")
    write_shapes(checkpoint, sources / "models" / "ggml-vocab-qwen2.gguf")
    return checkpoint


def add_answers(rows: list[dict[str, object]], work: Path, data: Path, count: int) -> None:
    """What is right of closed questions about real faces, into the rows; the first pair is what others are held to."""
    from _face_answers import ask, faces, scores

    from facellm.models.packages import read_package

    pairs = {f"{row['quant']}-{row['mmproj']}": read_package(work / f"{row['quant']}-{row['mmproj']}") for row in rows}
    found = ask(pairs, faces(data, count), work / "answers")
    first = next(iter(found.values()))
    for row, predictions in zip(rows, found.values(), strict=True):
        row["faces"] = scores(predictions, first)
        print(row["quant"], row["mmproj"], json.dumps(row["faces"]), flush=True)


def cost(checkpoint: Path, out: Path, kind: str, mmproj: str) -> dict[str, object]:
    """One row."""
    known = out / "costs.json"
    if known.exists():
        return dict(json.loads(known.read_text()))
    begun = time.monotonic()
    done = facellm("convert", str(checkpoint), "--out", str(out), "--quant", kind, "--mmproj-quant", mmproj, "--force",
                   "--verify")  # fmt: skip
    seconds = time.monotonic() - begun
    about = facellm("inspect", str(done["language"]))
    found = done["equality"]
    assert isinstance(found, dict)
    row: dict[str, object] = {
        "quant": kind, "mmproj": mmproj, "bits": about["bits_a_weight"], "cosine": found["cosine_mean"],
        "divergence": found["divergence_mean"], "same_token": found["agreement"], "letters": found["letters"],
        "letters_shift": found["letters_shift"], "equal": found["equal"], "seconds": round(seconds, 1),
        "divergence_picture": found["divergence_picture"], "cosine_least": found["cosine_least"],
    }  # fmt: skip
    known.write_text(json.dumps(row))
    return row


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
