"""Our converter beside llama.cpp's own, on one checkpoint of InternVL3-1B's shape. The last line is JSON.

    python3 run.py bench convert [--sources FOLDER] [--quant Q8_0] [--work FOLDER]

``--sources``: llama.cpp's sources as the llama-cpp-python source distribution carries them (``vendor/llama.cpp``);
without it that distribution is fetched with pip. Both converters run as processes of their own, one after the other,
in turns; time is wall time, memory the largest resident set. Tensors are compared byte for byte.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from _converting import OURS, fetched, pip, run
from _shapes import write_checkpoint
from gguf import GGUFReader

#: What llama.cpp's converter imports beyond our environment.
PEER_NEEDS = ("sentencepiece",)
#: What differs on purpose, and why; anything else in ``tensors_different`` is a fault.
EXPLAINED = {"v.position_embd.weight": "rolled: llama.cpp's graph has the class token last"}


def main() -> int:
    """Measure, print a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=Path, help="llama.cpp's sources (default: fetched)")
    parser.add_argument("--quant", default="F16,Q8_0", help="kinds, with commas")
    parser.add_argument("--work", type=Path, help="where to work (default: a temporary folder, about 6 GB)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        work = Path(folder)
        sources = options.sources or fetched(work / "sources")
        pip(["install", "--no-deps", "--target", str(work / "peer"), *PEER_NEEDS])
        checkpoint = work / "checkpoint"
        write_checkpoint(checkpoint, sources / "models" / "ggml-vocab-qwen2.gguf")
        result: dict[str, object] = {}
        rows = {kind: measured(checkpoint, sources, work, kind, options.rounds) for kind in options.quant.split(",")}
        for name in ("time_ratio", "memory_ratio"):
            result[name] = max(float(row[name]) for row in rows.values())
        different = sorted({name for row in rows.values() for name in row["different"]})
        result |= {"tensors_equal": min(row["equal"] for row in rows.values()), "tensors_different": different}
        for kind, row in rows.items():
            print(kind, json.dumps(row))
        for name in different:
            print(f"{name}: {EXPLAINED.get(name, 'NOT EXPLAINED')}")
        print(json.dumps(result))
    return 0 if set(different) <= set(EXPLAINED) else 1


def measured(checkpoint: Path, sources: Path, work: Path, kind: str, rounds: int) -> dict[str, object]:
    """Medians of both, and which tensors differ."""
    ours, theirs = work / f"ours-{kind}", work / f"theirs-{kind}"
    theirs.mkdir()
    mine, peer = [], []
    for _ in range(rounds):
        command = ["-m", "facellm.cli.app", "convert", str(checkpoint), "--out", str(ours), "--force", "--no-self-test"]
        mine.append(run([*command, "--quant", kind, "--mmproj-quant", kind], *OURS))
        script = [str(sources / "convert_hf_to_gguf.py"), str(checkpoint), "--outtype", kind.lower()]
        text = run([*script, "--outfile", str(theirs / "text.gguf")], work / "peer")
        eyes = run([*script, "--mmproj", "--outfile", str(theirs / "mmproj.gguf")], work / "peer")
        peer.append((text[0] + eyes[0], max(text[1], eyes[1])))
    different, equal = compared(ours, theirs)
    (time_ours, memory_ours), (time_theirs, memory_theirs) = (
        (median(one[0] for one in found), median(one[1] for one in found)) for found in (mine, peer)
    )
    return {
        "seconds": [round(time_ours, 2), round(time_theirs, 2)],
        "mb": [round(memory_ours / 1e6), round(memory_theirs / 1e6)],
        "time_ratio": round(time_ours / time_theirs, 3), "memory_ratio": round(memory_ours / memory_theirs, 3),
        "equal": equal, "different": different,
    }  # fmt: skip


def compared(ours: Path, theirs: Path) -> tuple[list[str], int]:
    """Names of tensors that differ or are in one only, and how many are equal."""
    found: list[dict[str, tuple[object, ...]]] = []
    for folder in (ours, theirs):
        tensors: dict[str, tuple[object, ...]] = {}
        for file in sorted(folder.glob("*.gguf")):
            for one in GGUFReader(file).tensors:
                tensors[one.name] = (one.tensor_type, tuple(map(int, one.shape)), np.asarray(one.data))
        found.append(tensors)
    mine, peer = found
    same = [name for name in mine if name in peer and _same(mine[name], peer[name])]
    return sorted((set(mine) | set(peer)) - set(same)), len(same)


def _same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    return one[:2] == other[:2] and np.array_equal(np.asarray(one[2]), np.asarray(other[2]))


if __name__ == "__main__":
    sys.exit(main())
