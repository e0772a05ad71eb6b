"""The virtual environment: made once, renewed when a lock file changes, made anew when a set-up was cut off."""

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
from bootstrap.places import LOG, REQUIREMENTS, ROOT, SOURCES, TURN, VENV, inner_environment, venv_python
from bootstrap.turn import alone

#: There while packages are being changed; found at a start, the set-up before was cut off.
UNFINISHED = VENV / ".unfinished"
WAITING = "another set-up is running in this folder; waiting for it"


def stamp_of(lock: str) -> str:
    """What the environment must have been set up from, for this lock."""
    return hashlib.sha256((REQUIREMENTS / lock).read_bytes() + build_key().encode()).hexdigest()


def is_ready(lock: str) -> bool:
    """Whether the environment was set up, to the end, from the lock file as it is now."""
    stamp = VENV / f".{lock}.stamp"
    return (
        venv_python().exists()
        and not UNFINISHED.exists()
        and stamp.exists()
        and stamp.read_text("utf-8") == stamp_of(lock)
    )


#: Each lock holds all of those after it.
WIDEST_FIRST = ("training.txt", "dev.txt", "desktop.txt")


def _stamp(lock: str) -> None:
    narrower = WIDEST_FIRST[WIDEST_FIRST.index(lock) :] if lock in WIDEST_FIRST else (lock,)
    for name in narrower:
        (VENV / f".{name}.stamp").write_text(stamp_of(name), encoding="utf-8")


def ensure_environment(lock: str) -> None:
    """Set up ``.venv`` with everything in ``requirements/LOCK`` and the engine. Raises ``SetupError``."""
    if is_ready(lock):
        return
    with alone(TURN, WAITING):
        if is_ready(lock):
            return
        wheel = engine_wheel()  # first: the longest step, and it leaves .venv alone
        _make_venv()
        with _changing():
            _pip(f"Installing packages ({lock.removesuffix('.txt')})", *_locked(lock))
            _pip("Installing llama.cpp", "--no-deps", "--no-index", "--force-reinstall", str(wheel))
            _write_paths()
        _stamp(lock)


def ensure_training() -> bool:
    """Everything for training; PyTorch only where a CPU build can be had at once. False without PyTorch."""
    ensure_environment("training.txt")
    lock = "torch-cpu.txt" if sys.platform == "linux" else "torch.txt"
    absent = VENV / ".torch-absent.stamp"  # looked for in vain: not at every start again
    if is_ready("torch.txt") or is_ready(lock):
        return True
    if absent.exists() and absent.read_text("utf-8") == stamp_of(lock):
        return False
    with alone(TURN, WAITING):
        UNFINISHED.touch()
        try:
            _pip("Installing PyTorch (CPU)", *_locked(lock))
        except SetupError:
            if sys.platform != "linux":
                raise
            UNFINISHED.unlink()  # pip found no such build, which it looks for before it changes anything
            absent.write_text(stamp_of(lock), encoding="utf-8")
            return False
        UNFINISHED.unlink()
        _stamp(lock)
        return True


def install_training() -> None:
    """PyTorch whatever it takes: a CPU build where there is one and no NVIDIA GPU, otherwise the index's build."""
    (VENV / ".torch-absent.stamp").unlink(missing_ok=True)
    ensure_environment("training.txt")
    if is_ready("torch.txt") or (not shutil.which("nvidia-smi") and ensure_training()):
        return
    with alone(TURN, WAITING), _changing():
        if sys.platform == "linux":
            _pip("Installing CUDA libraries", *_locked("cuda.txt"))
        _pip("Installing PyTorch", "--force-reinstall", *_locked("torch.txt"))
        _stamp("torch.txt")


def _make_venv() -> None:
    if UNFINISHED.exists() or (VENV.exists() and not venv_python().exists()):
        say("the last set-up was cut off: making .venv anew")
        try:
            shutil.rmtree(VENV)
        except OSError as error:
            hint = "Close what runs from there, or delete that folder by hand, and try again."
            raise SetupError(f"{VENV} cannot be removed ({error.strerror}). {hint}") from error
    if VENV.exists():
        return
    VENV.mkdir()
    UNFINISHED.touch()
    run_step("Making .venv", [sys.executable, "-m", "venv", str(VENV)], LOG)
    UNFINISHED.unlink()


@contextmanager
def _changing() -> Iterator[None]:
    """Whatever ends the block early, a kill included, leaves the mark: half a package is not taken for a whole."""
    UNFINISHED.touch()
    yield
    UNFINISHED.unlink()


def _locked(lock: str) -> tuple[str, ...]:
    """Exactly the locked files; dependencies stand in the lock, so none are looked for."""
    return "--require-hashes", "--no-deps", "-r", str(REQUIREMENTS / lock)


def _pip(title: str, *arguments: str) -> None:
    command = [str(venv_python()), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    command += ["install", "--progress-bar", "off", *arguments]
    run_step(title, command, LOG, inner_environment() | {"PIP_USER": "0"})


def _write_paths() -> None:
    """Our packages on the path, relative to the file: whole folders may move, and be called anything."""
    ask = [str(venv_python()), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    answer = subprocess.run(ask, capture_output=True, encoding="utf-8", check=True, env=inner_environment())
    site = Path(answer.stdout.strip())
    lines = [os.path.relpath(ROOT / name, site) + "\n" for name in SOURCES]
    (site / "facellm-sources.pth").write_text("".join(lines), encoding="utf-8")


def run_inside(arguments: list[str]) -> int:
    """Run the environment's Python in this one's place; on Windows, which cannot, as a child. Returns its exit code."""
    command, env = [str(venv_python()), *arguments], inner_environment()
    if os.name == "posix":
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(command[0], command, env)
    return subprocess.run(command, env=env, check=False).returncode
