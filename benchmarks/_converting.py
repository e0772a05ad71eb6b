"""Runs converters as processes of their own and measures them; fetches llama.cpp's sources."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Where our converter's modules are.
OURS = (ROOT / "desktop", ROOT / "converters")
MEASURE = """
import resource, subprocess, sys, time
begun = time.monotonic()
code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
print(time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def fetched(folder: Path) -> Path:
    """llama.cpp's sources of the installed binding's version."""
    version = importlib.metadata.version("llama-cpp-python")
    folder.mkdir(parents=True)
    pip(["download", "--no-deps", "--no-binary", ":all:", "-d", str(folder), f"llama-cpp-python=={version}"])
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return next(folder.glob("*/vendor/llama.cpp"))


def pip(arguments: list[str]) -> None:
    """Run pip; what it says goes to stderr."""
    subprocess.run([sys.executable, "-m", "pip", *arguments], check=True, stdout=sys.stderr)


def run(arguments: list[str], *paths: Path) -> tuple[float, int]:
    """Wall seconds and the largest resident set in bytes of ``python ARGUMENTS`` that finds modules in ``paths``."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    # By way of a small process: what a child's largest set begins with is the size of who started it.
    command = [sys.executable, "-c", MEASURE, sys.executable, *arguments]
    os.sync()  # what the one before has left to be written is not this one's
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}")
    seconds, size = map(float, done.stdout.split()[-2:])
    return seconds, int(size) * (1 if sys.platform == "darwin" else 1024)
