#!/usr/bin/env python3
"""FaceLLM's one door: sets everything up on a fresh machine, then runs.

python3 run.py                      open the window
python3 run.py ask PHOTO "…"        any facellm command (see: python3 run.py --help)
python3 run.py test [ARGUMENTS]     the tests (arguments are pytest's)
python3 run.py lint                 style, types, import contracts
python3 run.py bench NAME           benchmarks/NAME.py
python3 run.py package              build an installer
python3 run.py python SCRIPT …      a script inside the environment
python3 run.py setup [training]     set up only
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path, PureWindowsPath

from bootstrap.assets import ensure_assets
from bootstrap.console import SetupError, say
from bootstrap.engine import built_wheel
from bootstrap.environment import (
    Torch,
    builds_engine,
    ensure_environment,
    ensure_training,
    install_training,
    is_ready,
    run_inside,
)
from bootstrap.places import ROOT, venv_python
from bootstrap.system import ensure_system

#: facellm commands that need no models to be there.
LIGHT = {"--help", "-h", "--version", "models", "doctor", "checkpoint", "convert", "inspect", "parity"}
TOOLS = {"test", "lint", "bench", "package", "python"}


def main(arguments: list[str]) -> int:
    """Set up what the word needs, then become it. Returns an exit code."""
    word, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    try:
        if word == "setup":
            return setup(rest)
        if word in TOOLS:
            return tool(word, rest)
        prepare("desktop.txt", "window" if opens_window(arguments) else "offscreen")
        name_the_command()
        if word not in LIGHT:
            ensure_assets()
        return run_inside(["-P", "-m", "facellm.cli.app", *arguments])
    except SetupError as error:
        print(f"facellm: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def setup(rest: list[str]) -> int:
    """Set up for the window; with ``training`` for the tests and for training too."""
    if rest not in ([], ["training"]):
        raise SetupError("setup takes nothing, or the word training.")
    prepare("training.txt" if rest else "desktop.txt", "tests" if rest else "window")
    if rest:
        install_training()
    name_the_command()
    ensure_assets()
    say(f"ready: {venv_python()}")
    return 0


def tool(word: str, rest: list[str]) -> int:
    """The developer's words."""
    prepare("training.txt" if word in ("test", "lint") else "dev.txt", "tests" if word == "test" else "offscreen")
    if word == "python":
        return run_inside(rest)
    if word == "bench":
        return bench(rest)
    if word == "package":
        script = ROOT / "packaging" / "build.py"
        if not script.exists():
            print("facellm: installers are not part of this version yet", file=sys.stderr)
            return 2
        return run_inside([str(script), *rest])
    torch = ensure_training()  # types and tests are judged with PyTorch present where it can be
    if torch is Torch.ABSENT:
        say("no CPU build of PyTorch is to be had here: tests of the training are skipped.")
        say(f"To install PyTorch from the package index (several GB on Linux): {started_as()} setup training")
    elif torch is Torch.NOT_FETCHED:
        say("going on without PyTorch: tests of the training are skipped; the next run tries to fetch it again.")
    os.chdir(ROOT)
    if word == "lint":
        return run_inside(["-m", "bootstrap.lint"])
    ensure_assets()
    return run_inside(["-P", "-m", "pytest", *rest])


def bench(rest: list[str]) -> int:
    """One of the scripts in ``benchmarks``."""
    names = sorted(path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py"))
    if not rest or rest[0] not in names:
        raise SetupError(f"Which benchmark? There are: {', '.join(names) or 'none'}.")
    ensure_assets()
    return run_inside([str(ROOT / "benchmarks" / f"{rest[0]}.py"), *rest[1:]])


def prepare(lock: str, need: str) -> None:
    """System libraries and the environment."""
    ensure_system(need, build=not is_ready(lock) and builds_engine() and built_wheel() is None)
    ensure_environment(lock)


def opens_window(arguments: list[str]) -> bool:
    """Whether the program will open its window: without arguments, or for a photo alone."""
    return not arguments or (len(arguments) == 1 and arguments[0] not in LIGHT and Path(arguments[0]).is_file())


def started_as() -> str:
    """How this was started, as it can be typed again: ``python3 run.py``."""
    python, script = sys.orig_argv[0], sys.argv[0]
    if sys.platform == "win32":  # the launcher, py, and a double click leave a whole path
        name = PureWindowsPath(python).stem if PureWindowsPath(python).name == python else "py"
        return subprocess.list2cmdline([name, script])
    return shlex.join([python, script])


def name_the_command() -> None:
    """What the program's hints tell the user to type."""
    os.environ.setdefault("FACELLM_COMMAND", started_as())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
