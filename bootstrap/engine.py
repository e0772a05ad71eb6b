"""Builds llama-cpp-python once per user: lean, and portable to other machines of the same kind.

The package's own build is tuned to the machine it runs on (it crashes elsewhere), carries every
library six times and compiles parts that nothing here uses. These flags take about half the time
and give a wheel an eighth of the size.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import sys
from pathlib import Path

from bootstrap.console import SetupError, run_step
from bootstrap.places import LOG, REQUIREMENTS, VENV, cache_folder, inner_environment, venv_python
from bootstrap.system import require_compiler
from bootstrap.turn import alone

FLAGS = ("-DGGML_NATIVE=OFF", "-DLLAMA_OPENSSL=OFF", "-DCMAKE_PLATFORM_NO_VERSIONED_SONAME=ON", "-DGGML_CCACHE=OFF")
#: What scikit-build leaves out of the wheel: further copies of the libraries, headers, programs.
EXCLUDE = "lib/*;include/*;bin/*"
#: Read by CMake before llama.cpp's own project: leaves out its programs' common code.
PRELUDE = Path(__file__).with_name("llama_prelude.cmake")
#: More flags from the user, for example -DGGML_CUDA=ON or -DGGML_VULKAN=ON.
FLAGS_ENV = "FACELLM_CMAKE_ARGS"
#: Those of the installed build: a start from a desktop launcher, without the variable, is to keep a build for a GPU.
FLAGS_FILE = VENV / ".cmake-args"
LOCK, TOOLS = REQUIREMENTS / "engine.txt", REQUIREMENTS / "build.txt"


def remembered_flags() -> str:
    """The user's flags that the installed build was made with."""
    try:
        return FLAGS_FILE.read_text("utf-8").strip()
    except OSError:
        return ""


def extra_flags() -> str:
    """The user's flags: the variable's, also when it is set to nothing; without it those remembered."""
    flags = os.environ.get(FLAGS_ENV)
    return remembered_flags() if flags is None else flags.strip()


def build_key() -> str:
    """Changes with the version, the flags, Python and the platform."""
    parts = [LOCK.read_text("utf-8"), *FLAGS, EXCLUDE, PRELUDE.read_text("utf-8"), extra_flags()]
    parts += [str(sys.implementation.cache_tag), sys.platform, platform.machine()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def cmake_args() -> str:
    """The value of ``CMAKE_ARGS``, quoted as a shell would: the project may lie in a folder with spaces."""
    include = f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={PRELUDE.as_posix()}"
    return " ".join([shlex.quote(include), *FLAGS, extra_flags()]).strip()


def wheel_folder() -> Path:
    """Where the wheel for this key lies once built."""
    return cache_folder() / "engine" / build_key()


def built_wheel() -> Path | None:
    """The wheel from an earlier build. The folder appears whole, so that a wheel in it is whole too."""
    return next(iter(sorted(wheel_folder().glob("llama_cpp_python-*.whl"))), None)


def engine_wheel() -> Path:
    """The built wheel, from the cache or built now. Raises ``SetupError``."""
    folder = wheel_folder()
    with alone(folder.parent / "lock", "another folder's set-up is building llama.cpp; waiting for its wheel"):
        found = built_wheel()
        if found is None:
            require_compiler()
            found = _build(folder)
    return found


def _build(folder: Path) -> Path:
    scratch = folder.with_name("building")  # whoever left it is gone: this process holds the lock
    shutil.rmtree(scratch, ignore_errors=True)
    wheels, python = scratch / "wheel", venv_python(scratch / "tools")
    wheels.mkdir(parents=True)
    env = inner_environment()
    env |= {"CMAKE_ARGS": cmake_args(), "SKBUILD_WHEEL_EXCLUDE": EXCLUDE, "PIP_USER": "0"}
    env["PATH"] = f"{python.parent}{os.pathsep}{env.get('PATH', os.defpath)}"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    try:
        run_step("Making a place to build", [sys.executable, "-m", "venv", str(scratch / "tools")], LOG)
        locked = ["--no-deps", "--require-hashes", "-r"]
        run_step("Fetching the build tools", [*pip, "install", *locked, str(TOOLS)], LOG, env)
        # Without pip's cache: a wheel that another project had built with other flags would be taken from there.
        command = [*pip, "wheel", "-v", "--no-cache-dir", "--no-build-isolation", "-w", str(wheels), *locked, str(LOCK)]
        run_step("Building llama.cpp (some minutes, once per user)", command, LOG, env)
        if not list(wheels.glob("llama_cpp_python-*.whl")):
            raise SetupError(f"The build of llama.cpp left no wheel. What it printed: {LOG}")
        shutil.rmtree(folder, ignore_errors=True)
        wheels.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return next(folder.glob("llama_cpp_python-*.whl"))
