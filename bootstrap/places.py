"""Where set-up keeps its things."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
REQUIREMENTS = ROOT / "requirements"
#: Beside the environment, so that they outlive it: what the long steps printed, and the lock of a set-up.
LOG = ROOT / ".setup" / "log.txt"
TURN = ROOT / ".setup" / "lock"

#: Source roots of our packages; put on the path by one file instead of an editable install.
SOURCES = ("desktop", "training", "converters")


def venv_python(venv: Path = VENV) -> Path:
    """The Python of a virtual environment."""
    return venv / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def home() -> Path:
    """The user's folder, also where ``HOME`` is set to nothing (then the account's own)."""
    if sys.platform != "win32" and not os.environ.get("HOME"):
        import pwd

        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    return Path.home()


def cache_folder() -> Path:
    """The user's cache folder, for the built llama.cpp wheel: a second checkout does not build again."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache")
    return base / "facellm"


def inner_environment() -> dict[str, str]:
    """The variables for programs inside the environment: none that would change which Python code they see."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
    if "HOME" in env and not env["HOME"]:
        env["HOME"] = str(home())
    env["PYTHONUTF8"] = "1"
    return env
