"""Builds llama-cpp-python once per user: lean, and portable to other machines of the same kind.

The package's own build is tuned to the machine it runs on (it crashes elsewhere), carries every
library six times and compiles parts that nothing here uses. These flags take about half the time
and give a wheel an eighth of the size.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

from bootstrap.console import SetupError, run_step
from bootstrap.places import REQUIREMENTS, cache_folder, venv_python
from bootstrap.system import require_compiler

FLAGS = ("-DGGML_NATIVE=OFF", "-DLLAMA_OPENSSL=OFF", "-DCMAKE_PLATFORM_NO_VERSIONED_SONAME=ON", "-DGGML_CCACHE=OFF")
#: Read by CMake before llama.cpp's own project: leaves out its programs' common code.
PRELUDE = Path(__file__).with_name("llama_prelude.cmake")
#: More flags from the user, for example -DGGML_CUDA=ON or -DGGML_VULKAN=ON.
FLAGS_ENV = "FACELLM_CMAKE_ARGS"


def build_key() -> str:
    """Changes with the version, the flags, Python and the platform."""
    parts = [(REQUIREMENTS / "engine.txt").read_text(), *FLAGS, PRELUDE.read_text(), os.environ.get(FLAGS_ENV, ""),
             sys.implementation.cache_tag, sys.platform, os.uname().machine if hasattr(os, "uname") else "AMD64"]  # fmt: skip
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def engine_wheel(log: Path) -> Path:
    """The built wheel, from the cache or built now. Raises ``SetupError``."""
    folder = cache_folder() / "engine" / build_key()
    found = sorted(folder.glob("llama_cpp_python-*.whl"))
    if found:
        return found[0]
    require_compiler()
    scratch = folder.with_name(f"{folder.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    python = str(venv_python())
    prelude = PRELUDE.as_posix()
    env = dict(os.environ)
    env["CMAKE_ARGS"] = " ".join(
        [f'-DCMAKE_PROJECT_llama_cpp_INCLUDE="{prelude}"', *FLAGS, os.environ.get(FLAGS_ENV, "")]
    ).strip()
    env["PATH"] = f"{venv_python().parent}{os.pathsep}{env['PATH']}"
    try:
        run_step(
            "Building llama.cpp (a few minutes, once)",
            [python, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--require-hashes",
             "-C", "wheel.exclude=lib/*;include/*;bin/*", "-r", str(REQUIREMENTS / "engine.txt"), "-w", str(scratch)],
            log, env,
        )  # fmt: skip
        if not list(scratch.glob("llama_cpp_python-*.whl")):
            raise SetupError(f"The build of llama.cpp left no wheel. Log: {log}")
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return next(folder.glob("llama_cpp_python-*.whl"))
