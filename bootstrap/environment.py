"""The virtual environment: made once, renewed when a lock file changes, made anew when a set-up was cut off."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from bootstrap.console import SetupError, run_step, say
from bootstrap.engine import FLAGS_ENV, FLAGS_FILE, build_key, engine_wheel, extra_flags, remembered_flags
from bootstrap.packages import NoSuchDistribution, fetch, install, pip
from bootstrap.places import LOG, REQUIREMENTS, ROOT, SOURCES, TURN, VENV, inner_environment, venv_python
from bootstrap.turn import alone

#: There while packages are being changed; found at a start, the set-up before was cut off. Names the locks that it
#: did not touch.
UNFINISHED = VENV / ".unfinished"
WAITING = "another set-up is running in this folder; waiting for it"


def stamp_of(lock: str) -> str:
    """What the environment must have been set up from, for this lock."""
    return hashlib.sha256((REQUIREMENTS / lock).read_bytes() + build_key().encode()).hexdigest()


def is_ready(lock: str) -> bool:
    """Whether the environment was set up, to the end, from the lock file as it is now."""
    stamp, spared = VENV / f".{lock}.stamp", _spared()
    return (
        venv_python().exists()
        and (spared is None or lock in spared)
        and stamp.exists()
        and stamp.read_text("utf-8") == stamp_of(lock)
    )


def _spared() -> list[str] | None:
    """The locks whose packages the set-up that was cut off did not touch; None when none was cut off."""
    try:
        return UNFINISHED.read_text("utf-8").split()
    except FileNotFoundError:
        return None


#: Each lock holds all of those after it.
WIDEST_FIRST = ("training.txt", "dev.txt", "desktop.txt")
#: What half a PyTorch leaves whole. Not training.txt: through that one it is made good.
BESIDE_TORCH = WIDEST_FIRST[1:]
#: PyTorch was looked for in vain: not at every start again. An earlier name's stamp was written without a network too.
NO_TORCH = ".no-torch.stamp"


def _stamp(lock: str) -> None:
    place = WIDEST_FIRST.index(lock) if lock in WIDEST_FIRST else 0
    narrower = WIDEST_FIRST[place:] if lock in WIDEST_FIRST else (lock,)
    for name in WIDEST_FIRST[:place]:  # may have lost packages to this one; found whole by pip where it has not
        if not is_ready(name):
            (VENV / f".{name}.stamp").unlink(missing_ok=True)
    for name in narrower:
        (VENV / f".{name}.stamp").write_text(stamp_of(name), encoding="utf-8")


def ensure_environment(lock: str) -> None:
    """Set up ``.venv`` with everything in ``requirements/LOCK`` and the engine. Raises ``SetupError``."""
    if is_ready(lock):
        return
    with alone(TURN, WAITING):
        if not is_ready(lock):
            _set_up(lock)


def builds_engine() -> bool:
    """Whether the next set-up needs a wheel of llama.cpp: not where any lock is ready, which includes it."""
    return UNFINISHED.exists() or not any(map(is_ready, WIDEST_FIRST))


def _set_up(lock: str) -> None:
    """All that can fail for want of a network comes first, and leaves alone what is installed."""
    flags, before, name = extra_flags(), remembered_flags(), lock.removesuffix(".txt")
    if flags != before:
        say(f"llama.cpp's flags ({FLAGS_ENV}), for later starts too: {flags or 'none'}; before: {before or 'none'}")
    wheel = engine_wheel() if builds_engine() else None
    _make_venv()
    cut_off = UNFINISHED.exists()  # and a narrower lock still works: kept until all that replaces it is here
    fetched = fetch(f"Fetching packages ({name})", lock, everything=cut_off)
    if cut_off:
        _clear()
        _make_venv()
    with _changing(WIDEST_FIRST[WIDEST_FIRST.index(lock) + 1 :]):
        install(f"Installing packages ({name})", fetched)
        if wheel:
            pip("Installing llama.cpp", "install", "--no-deps", "--no-index", "--force-reinstall", str(wheel))
            FLAGS_FILE.write_text(flags, encoding="utf-8")
        _write_paths()
    _stamp(lock)


class Torch(Enum):
    """How it stands with PyTorch."""

    READY = "ready"
    ABSENT = "the index has no build for this machine"
    NOT_FETCHED = "could not be fetched this time"


def ensure_training() -> Torch:
    """Everything for training; PyTorch only where a CPU build can be had at once. Says why when it could not be."""
    ensure_environment("training.txt")
    lock = "torch-cpu.txt" if sys.platform == "linux" else "torch.txt"
    if is_ready("torch.txt") or is_ready(lock):
        return Torch.READY
    absent = VENV / NO_TORCH
    if absent.exists() and absent.read_text("utf-8") == stamp_of(lock):
        return Torch.ABSENT
    with alone(TURN, WAITING):
        try:
            fetched = fetch("Fetching PyTorch (CPU)", lock)
        except NoSuchDistribution:
            absent.write_text(stamp_of(lock), encoding="utf-8")
            return Torch.ABSENT
        except SetupError as error:
            say(str(error))
            return Torch.NOT_FETCHED
        with _changing(BESIDE_TORCH):
            install("Installing PyTorch (CPU)", fetched)
        _stamp(lock)
        return Torch.READY


def install_training() -> None:
    """PyTorch whatever it takes: a CPU build where there is one and no NVIDIA GPU, otherwise the index's build."""
    (VENV / NO_TORCH).unlink(missing_ok=True)
    ensure_environment("training.txt")
    if is_ready("torch.txt"):
        return
    state = Torch.ABSENT if shutil.which("nvidia-smi") else ensure_training()
    if state is Torch.READY:
        return
    if state is Torch.NOT_FETCHED:  # no reason to fetch the other one, of several GB
        raise SetupError("PyTorch could not be fetched; the reason stands above. All else works as before.")
    with alone(TURN, WAITING):
        cuda = fetch("Fetching CUDA libraries", "cuda.txt") if sys.platform == "linux" else None
        torch = fetch("Fetching PyTorch", "torch.txt")
        with _changing(BESIDE_TORCH):
            install("Installing CUDA libraries", cuda)
            install("Installing PyTorch", torch)
        _stamp("torch.txt")


def _make_venv() -> None:
    """Unless there is one: a whole one, or one of which something still works."""
    if VENV.exists() and (_spared() == [] or not venv_python().exists()):
        _clear()
    if VENV.exists() and venv_python().exists():
        return
    VENV.mkdir(exist_ok=True)
    UNFINISHED.touch()
    run_step("Making .venv", [sys.executable, "-m", "venv", str(VENV)], LOG)
    UNFINISHED.unlink()


def _clear() -> None:
    """Empty the folder, but for the mark (this may be cut off as well) and the engine's flags."""
    say("the last set-up was cut off: making .venv anew")
    UNFINISHED.write_text("", encoding="utf-8")
    try:
        for path in VENV.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name not in (UNFINISHED.name, FLAGS_FILE.name):
                path.unlink()
    except OSError as error:
        hint = "Close what runs from there, or delete that folder by hand, and try again."
        raise SetupError(f"{VENV} cannot be removed ({error.strerror}). {hint}") from error


@contextmanager
def _changing(beside: Sequence[str] = ()) -> Iterator[None]:
    """Whatever ends the block early, a kill included, leaves the mark: half a package is not taken for a whole.

    Those of the locks ``beside`` that are ready stay so: all their packages are installed, so none is changed.
    """
    spared = [lock for lock in beside if is_ready(lock)]
    UNFINISHED.write_text("\n".join(spared), encoding="utf-8")
    yield
    UNFINISHED.unlink()


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
