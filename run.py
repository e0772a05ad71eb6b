#!/usr/bin/env python3
"""FaceLLM's one door: sets everything up on a fresh machine, then runs.

    python3 run.py                      open the window
    python3 run.py ask PHOTO "…"        any facellm command (see: python3 run.py --help)
    python3 run.py test [ARGUMENTS]     the tests
    python3 run.py lint                 ruff, mypy, import contracts
    python3 run.py bench NAME           benchmarks/NAME.py
    python3 run.py package              build an installer
    python3 run.py python SCRIPT …      a script inside the environment
    python3 run.py setup [training]     set up only
"""

from __future__ import annotations

import os
import subprocess
import sys

from bootstrap.console import SetupError, say
from bootstrap.environment import ensure_environment, ensure_training, install_training, run_inside
from bootstrap.places import LOG, ROOT, venv_python
from bootstrap.system import ensure_system

#: facellm commands that need neither models nor a screen.
LIGHT = {"--help", "-h", "--version", "models", "doctor"}


def main(arguments: list[str]) -> int:
    word = arguments[0] if arguments else ""
    rest = arguments[1:]
    try:
        if word == "setup":
            return setup(rest)
        if word in ("test", "lint", "bench", "package", "python"):
            return tool(word, rest)
        prepare("desktop.txt", window=not word)
        if word not in LIGHT:
            ensure_assets()
        return run_inside(["-m", "facellm.cli.app", *arguments], environment())
    except SetupError as error:
        print(f"facellm: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def setup(rest: list[str]) -> int:
    prepare("desktop.txt", window=True)
    if "training" in rest:
        prepare("dev.txt", tests=True)
        install_training()
    ensure_assets()
    say(f"ready: {venv_python()}")
    return 0


def tool(word: str, rest: list[str]) -> int:
    """The developer's words."""
    prepare("dev.txt", tests=word == "test")
    env = environment()
    if word == "python":
        return run_inside(rest, env)
    if word == "lint":
        return run_inside([str(ROOT / "bootstrap" / "lint.py")], env)
    if word == "bench":
        names = sorted(path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py"))
        if not rest or rest[0] not in names:
            raise SetupError(f"Which benchmark? There are: {', '.join(names) or 'none'}.")
        ensure_assets()
        return run_inside([str(ROOT / "benchmarks" / f"{rest[0]}.py"), *rest[1:]], env)
    if word == "package":
        script = ROOT / "packaging" / "build.py"
        if not script.exists():
            print("facellm: installers are not part of this version yet", file=sys.stderr)
            return 2
        return run_inside([str(script), *rest], env)
    ensure_training()
    ensure_assets()
    return run_inside(["-m", "pytest", *rest], env)


def prepare(lock: str, *, window: bool = False, tests: bool = False) -> None:
    """System libraries and environment, unless they were set up from this lock before."""
    from bootstrap.environment import is_ready

    if not is_ready(lock):
        ensure_system(LOG if LOG.parent.exists() else ROOT / ".venv-setup.log", window=window, tests=tests)
    ensure_environment(lock)


def ensure_assets() -> None:
    """Face models and the embedded model: fetched and built once, looked at afterwards."""
    done = subprocess.run([str(venv_python()), "-m", "facellm.models.ensure"], env=environment(), check=False)
    if done.returncode:
        raise SetupError("The models could not be made ready; the reason stands above.")


def environment() -> dict[str, str]:
    env = dict(os.environ)
    env.pop("PYTHONHOME", None)
    env.pop("PYTHONPATH", None)
    env["PYTHONUTF8"] = "1"
    return env


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
