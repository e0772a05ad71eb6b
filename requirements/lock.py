"""Renews the hash-locked requirement files from pyproject.toml. Needs uv; names no index.

    python3 run.py python requirements/lock.py

desktop.txt is what the product needs; dev.txt adds the tests' tools; training.txt adds PyTorch's
surroundings. PyTorch itself stands apart, because one pin means different wheels: torch-cpu.txt holds
only CPU wheels for Linux, torch.txt those of the package index (CPU on macOS and Windows, CUDA on
Linux, with cuda.txt). engine.txt is llama-cpp-python's source, built by bootstrap/engine.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "requirements"
UV = ["uv", "pip", "compile", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url",
      "--no-emit-find-links", "--no-annotate", "--no-header", "--quiet", "--upgrade"]  # fmt: skip
#: sha256 of torch 2.13.0+cpu for CPython 3.11 on Linux x86-64, as its publisher's CPU index serves it.
TORCH_CPU = ("6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",)
CUDA = re.compile(r"^(nvidia-|cuda-|triton)")


def compile_lock(*arguments: str, text: str | None = None) -> list[str]:
    """The locked entries, one string each with its hashes."""
    done = subprocess.run([*UV, *arguments], cwd=ROOT, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return re.split(r"\n(?=[a-z])", done.stdout.strip())


def write(name: str, entries: list[str]) -> None:
    """One lock file."""
    (HERE / name).write_text("\n".join(entries) + "\n")
    print(f"{name}: {len(entries)} packages")


def main() -> None:
    """All of them."""
    product = ("--extra", "desktop", "--extra", "converters")
    leave = ("--no-emit-package", "llama-cpp-python")
    write("desktop.txt", compile_lock("pyproject.toml", *product, *leave))
    pinned = ("-c", "requirements/desktop.txt")
    write("dev.txt", compile_lock("pyproject.toml", *product, "--extra", "dev", *pinned, *leave))
    extras = (*product, "--extra", "dev", "--extra", "training")
    everything = compile_lock("pyproject.toml", *extras, "-c", "requirements/dev.txt", *leave)
    torch = next(entry for entry in everything if entry.startswith("torch=="))
    version = torch.split()[0].removeprefix("torch==")
    # "===" because "==" would also accept a CPU build that pip finds elsewhere, which has another hash.
    write("torch.txt", [torch.replace("==", "===", 1)])
    write("cuda.txt", [entry for entry in everything if CUDA.match(entry)])
    write("training.txt", [e for e in everything if not CUDA.match(e) and not e.startswith("torch==")])
    # With its local version: where pip is told of no such build, it says so at once and downloads nothing.
    write(
        "torch-cpu.txt", [f"torch=={version}+cpu" + "".join(f" \\\n    --hash=sha256:{digest}" for digest in TORCH_CPU)]
    )
    write("build.txt", compile_lock("-", text="scikit-build-core[pyproject]\ncmake\nninja\nsetuptools\n"))
    engine = compile_lock("-", text="llama-cpp-python==0.3.36\n")
    write("engine.txt", [entry for entry in engine if entry.startswith("llama-cpp-python")])


if __name__ == "__main__":
    main()
