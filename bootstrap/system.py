"""System libraries that Python wheels expect on a bare Debian or Ubuntu, and the compiler."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bootstrap.console import SetupError, run_step, say
from bootstrap.places import LOG, VENV

#: Shared library → Debian package; measured on a minimal Debian 12.
OFFSCREEN = {
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libfontconfig.so.1": "libfontconfig1",
    "libdbus-1.so.3": "libdbus-1-3",
}
WINDOW = {
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
}
#: Program or file → Debian package, for the test that opens a real window.
TEST_TOOLS = {"Xvfb": "xvfb", "xauth": "xauth", "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf": "fonts-dejavu-core"}

#: What a run needs of the system: its libraries, its tools.
NEEDS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "offscreen": (OFFSCREEN, {}),
    "window": (OFFSCREEN | WINDOW, {}),
    "tests": (OFFSCREEN | WINDOW, TEST_TOOLS),
}


def missing_libraries(wanted: dict[str, str], known: str) -> list[str]:
    """Packages whose library does not stand in ``known`` (what ``ldconfig -p`` prints)."""
    present = {line.split()[0] for line in known.splitlines() if line.strip()}
    return [package for library, package in wanted.items() if library not in present]


def missing_tools(wanted: dict[str, str]) -> list[str]:
    """Packages whose program is not on the path, or whose file is not there."""
    return [
        package
        for tool, package in wanted.items()
        if not (Path(tool).exists() if tool.startswith("/") else shutil.which(tool))
    ]


def missing_packages(need: str, *, build: bool) -> list[str]:
    """Debian packages that are missing for ``need``; with ``build`` also a compiler."""
    loader = shutil.which("ldconfig") or "/sbin/ldconfig"
    try:
        known = subprocess.run([loader, "-p"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return []  # no glibc loader here: the wheels will say themselves what they lack
    libraries, tools = NEEDS[need]
    packages = missing_libraries(libraries, known) + missing_tools(tools)
    if importlib.util.find_spec("ensurepip") is None:  # Debian keeps it apart
        packages.append(f"python3.{sys.version_info[1]}-venv")
    if build and not has_compiler():
        packages.append("g++")
    return packages


def ensure_system(need: str, *, build: bool) -> None:
    """Install what is missing when this may (root on Debian or Ubuntu); otherwise print the command and go on."""
    stamp = VENV / f".system-{need}.stamp"
    if sys.platform != "linux" or stamp.exists():
        return
    packages = missing_packages(need, build=build)
    if not packages:
        if VENV.exists():
            stamp.touch()
    elif not shutil.which("apt-get"):
        say(f"these system packages seem to be missing (Debian's names): {' '.join(packages)}")
    elif os.geteuid() != 0:
        say("some system packages are missing; please run:")
        say(f"    sudo apt-get install --no-install-recommends {' '.join(packages)}")
    else:
        _install(packages)


def _install(packages: list[str]) -> None:
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    names = " ".join(packages)
    hint = f"Install them by hand, then run the same command again: apt-get install --no-install-recommends {names}"
    install = [*apt, "install", "-y", "--no-install-recommends", *packages]
    run_step("Reading the list of system packages", [*apt, "update"], LOG, env)
    run_step(f"Installing system packages ({names})", install, LOG, env, hint)


def has_compiler() -> bool:
    """Whether a C++ compiler can be expected to work."""
    if sys.platform == "win32":
        programs = Path(os.environ.get("PROGRAMFILES(X86)", "C:/Program Files (x86)"))
        finder = programs / "Microsoft Visual Studio" / "Installer" / "vswhere.exe"
        return finder.exists() or shutil.which("cl") is not None
    if sys.platform == "darwin":  # /usr/bin/clang++ is there even when the tools behind it are not
        return subprocess.run(["xcode-select", "-p"], capture_output=True, check=False).returncode == 0
    return any(shutil.which(name) for name in (os.environ.get("CXX") or "c++", "g++", "clang++"))


def require_compiler() -> None:
    """Raise ``SetupError`` when no C++ compiler is found (llama.cpp is built from source)."""
    if has_compiler():
        return
    if sys.platform == "win32":
        hint = "Install the Build Tools for Visual Studio with the workload “Desktop development with C++”."
    elif sys.platform == "darwin":
        hint = "Run: xcode-select --install"
    else:
        hint = "Install one, for example: sudo apt-get install g++"
    raise SetupError(f"No C++ compiler was found; llama.cpp is built from source. {hint}")
