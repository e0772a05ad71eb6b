"""Memory of converting a checkpoint of InternVL3-38B's shape (77 GB). The last line is JSON.

    python3 run.py bench convert_large --work FOLDER [--sources FOLDER]

The checkpoint is a file without bytes on the disk, all zeros; what is written is 41 GB, and is removed again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from _converting import OURS, fetched, run
from _shapes import LARGE, write_checkpoint


def main() -> int:
    """Convert, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder on a disk with 45 GB free")
    parser.add_argument("--sources", type=Path, help="llama.cpp's sources (default: fetched)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        work = Path(folder)
        sources = options.sources or fetched(work / "sources")
        checkpoint, out = work / "checkpoint", work / "out"
        size = write_checkpoint(checkpoint, sources / "models" / "ggml-vocab-qwen2.gguf", LARGE)
        command = ["-m", "facellm.cli.app", "convert", str(checkpoint), "--out", str(out), "--no-self-test"]
        seconds, memory = run(command, *OURS)
        written = sum(file.stat().st_size for file in out.iterdir())
        shutil.rmtree(out)
    result = {"checkpoint_gb": size / 1e9, "written_gb": written / 1e9, "seconds": seconds, "memory_mb": memory / 1e6}
    print(json.dumps({name: round(value, 1) for name, value in result.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
