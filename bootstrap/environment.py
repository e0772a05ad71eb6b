"""The virtual environment: made once, renewed when a lock file changes, mended when a set-up was cut off."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bootstrap.console import SetupError, run_step, say
from bootstrap.engine import build_key, engine_wheel
from bootstrap.places import LOG, REQUIREMENTS, ROOT, SOURCES, VENV, venv_python

PYTHONS = ((3, 11), (3, 13))


def check_python() -> None:
    """Raise ``SetupError`` unless this Python is one that all packages have wheels for."""
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        found = ".".join(map(str, sys.version_info[:2]))
        raise SetupError(
            f"FaceLLM needs Python 3.11, 3.12 or 3.13; this is {found} ({sys.executable}). "
            "Install one of them and run it with run.py, for example: python3.12 run.py"
        )


def stamp_of(lock: str) -> str:
    """What the environment must have been set up from, for this lock."""
    text = (REQUIREMENTS / lock).read_bytes() + build_key().encode() + str(ROOT).encode()
    return hashlib.sha256(text).hexdigest()


def is_ready(lock: str) -> bool:
    """Whether the environment was set up from the lock file as it is now."""
    stamp = VENV / f".{lock}.stamp"
    return venv_python().exists() and stamp.exists() and stamp.read_text() == stamp_of(lock)


def ensure_environment(lock: str) -> None:
    """Set up ``.venv`` with everything in ``requirements/LOCK`` and the engine. Raises ``SetupError``."""
    if is_ready(lock):
        return
    check_python()
    with _alone():
        if is_ready(lock):
            return
        _make_venv()
        _pip("Installing the build tools", "build.txt")
        _pip(f"Installing packages ({lock.removesuffix('.txt')})", lock)
        _install_engine()
        _write_paths()
        (VENV / f".{lock}.stamp").write_text(stamp_of(lock))


def ensure_training() -> bool:
    """Add PyTorch where a CPU build can be had (on Linux by hash, which fails fast). False when it cannot."""
    if is_ready("training.txt"):
        return True
    with _alone():
        torch = "torch-cpu.txt" if sys.platform == "linux" else "torch.txt"
        try:
            _pip("Installing PyTorch (CPU)", torch)
        except SetupError:
            say("no CPU build of PyTorch can be had here: the training tests will be skipped")
            say("    to install the CUDA build (several GB): python3 run.py setup training")
            return False
        _pip("Installing packages (training)", "training.txt")
        (VENV / ".training.txt.stamp").write_text(stamp_of("training.txt"))
    return True


def install_training() -> None:
    """PyTorch whatever it takes: the CPU build where there is one, otherwise the index's build with CUDA."""
    if ensure_training():
        return
    with _alone():
        _pip("Installing PyTorch", "torch.txt")
        if sys.platform == "linux":
            _pip("Installing CUDA libraries", "cuda.txt")
        _pip("Installing packages (training)", "training.txt")
        (VENV / ".training.txt.stamp").write_text(stamp_of("training.txt"))


def _make_venv() -> None:
    if venv_python().exists():
        works = subprocess.run([str(venv_python()), "-m", "pip", "--version"], capture_output=True, check=False)
        if works.returncode == 0:
            return
    if VENV.exists():
        say("mending a half-made .venv")
        shutil.rmtree(VENV)
    run_step("Making .venv", [sys.executable, "-m", "venv", str(VENV)], ROOT / ".venv-setup.log")
    (ROOT / ".venv-setup.log").replace(LOG)


def _pip(title: str, lock: str) -> None:
    """Install exactly the locked files; dependencies are in the lock, so none are looked for."""
    command = [str(venv_python()), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--require-hashes",
               "--no-deps", "-r", str(REQUIREMENTS / lock)]  # fmt: skip
    run_step(title, command, LOG)


def _install_engine() -> None:
    wheel = engine_wheel(LOG)
    command = [str(venv_python()), "-m", "pip", "install", "--disable-pip-version-check", "--no-deps",
               "--force-reinstall", str(wheel)]  # fmt: skip
    run_step("Installing llama.cpp", command, LOG)


def _write_paths() -> None:
    ask = [str(venv_python()), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip())
    (site / "facellm-sources.pth").write_text("".join(f"{ROOT / name}\n" for name in SOURCES), encoding="utf-8")


@contextmanager
def _alone() -> Iterator[None]:
    """One set-up at a time in this checkout; the system frees the lock when its holder dies."""
    path = ROOT / ".setup.lock"
    with path.open("a+b") as file:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                say("another set-up is running in this folder; waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run_inside(arguments: list[str], env: dict[str, str]) -> int:
    """Run the environment's Python in this one's place (a child process on Windows)."""
    command = [str(venv_python()), *arguments]
    if sys.platform == "win32":
        return subprocess.run(command, env=env, check=False).returncode
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, env)
