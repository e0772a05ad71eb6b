"""Tokens a second by how long llama.cpp's threads turn before they sleep, alone and beside busy processes.

    python3 run.py bench spins [--busy 0,1,2] [--spins 200,1000,4000,20000]

The reason for ``GOMP_SPINCOUNT`` in ``engine/process.py``. Medians of three answers; the last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from statistics import median

from facellm.core.ask import Question
from facellm.engine.client import EngineClient
from facellm.engine.protocol import AskRequest, Done
from facellm.models.packages import find_package
from facellm.models.store import AssetStore


def main() -> int:
    """Measure, print a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", default="0,1,2", help="numbers of busy processes, with commas")
    parser.add_argument("--spins", default="200,1000,4000,20000")
    options = parser.parse_args()
    spins = [int(one) for one in options.spins.split(",")]
    rows = {}
    print("busy  " + "".join(f"{spin:>9,}" for spin in spins))
    for count in (int(one) for one in options.busy.split(",")):
        with busy(count):
            rows[count] = {spin: speed(spin) for spin in spins}
        print(f"{count:>4}  " + "".join(f"{rows[count][spin]:>9}" for spin in spins), flush=True)
    print(json.dumps(rows))
    return 0


def speed(spin: int) -> float:
    """Tokens a second of the embedded model."""
    os.environ["GOMP_SPINCOUNT"] = str(spin)
    request = AskRequest((), Question("Write a long story about the sea."), max_tokens=60, temperature=1.0)
    with EngineClient(find_package("nano", AssetStore())) as client:
        answers = [list(client.ask(request))[-1] for _ in range(4)][1:]
    return round(median(done.answer.timings.tokens_per_s for done in answers if isinstance(done, Done)), 1)


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that do nothing but compute."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
