"""System libraries that Python wheels expect on a bare Debian or Ubuntu, and the compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bootstrap.console import SetupError, run_step, say

#: Shared library → Debian package; measured on a minimal Debian 12 (docs/decisions/platform.md).
OFFSCREEN = {
    "libGL.so.1": "libgl1", "libEGL.so.1": "libegl1", "libglib-2.0.so.0": "libglib2.0-0",
    "libxkbcommon.so.0": "libxkbcommon0", "libfontconfig.so.1": "libfontconfig1", "libdbus-1.so.3": "libdbus-1-3",
}  # fmt: skip
WINDOW = {
    "libxcb-cursor.so.0": "libxcb-cursor0", "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-keysyms.so.1": "libxcb-keysyms1", "libxcb-image.so.0": "libxcb-image0",
    "libxcb-render-util.so.0": "libxcb-render-util0", "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-xkb.so.1": "libxcb-xkb1", "libxcb-randr.so.0": "libxcb-randr0",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
}  # fmt: skip
#: Program or file → Debian package, for the test that opens a real window.
TEST_TOOLS = {"Xvfb": "xvfb", "xauth": "xauth", "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf": "fonts-dejavu-core"}


def missing_libraries(wanted: dict[str, str], known: str) -> list[str]:
    """Packages whose library does not stand in ``known`` (what ``ldconfig -p`` prints)."""
    present = {line.split()[0] for line in known.splitlines() if line.strip()}
    return [package for library, package in wanted.items() if library not in present]


def missing_tools(wanted: dict[str, str]) -> list[str]:
    """Packages whose program is not on the path, or whose file is not there."""
    return [
        package for tool, package in wanted.items()
        if not (Path(tool).exists() if tool.startswith("/") else shutil.which(tool))
    ]  # fmt: skip


def ensure_system(log: Path, *, window: bool, tests: bool) -> None:
    """Install what is missing when this may (root on Debian or Ubuntu); otherwise print the command and go on."""
    if sys.platform != "linux":
        return
    loader = shutil.which("ldconfig") or "/sbin/ldconfig"
    try:
        known = subprocess.run([loader, "-p"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return  # no glibc loader here: the wheels will say themselves what they lack
    needed = missing_libraries(OFFSCREEN | (WINDOW if window or tests else {}), known)
    needed += missing_tools(TEST_TOOLS) if tests else []
    if not needed:
        return
    if not shutil.which("apt-get"):
        say(f"these system libraries seem to be missing (Debian's names): {' '.join(needed)}")
        return
    if os.geteuid() != 0:
        say("some system libraries are missing; please run:")
        say(f"    sudo apt-get install --no-install-recommends {' '.join(needed)}")
        return
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    run_step("apt-get update", ["apt-get", "update", "-qq"], log, env)
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *needed]
    run_step(f"Installing {len(needed)} system packages", install, log, env)


def require_compiler() -> None:
    """Raise ``SetupError`` when no C++ compiler is found (llama.cpp is built from source)."""
    if sys.platform == "win32":
        finder = Path(os.environ.get("ProgramFiles(x86)", "C:/Program Files (x86)"))
        if (finder / "Microsoft Visual Studio" / "Installer" / "vswhere.exe").exists() or shutil.which("cl"):
            return
        hint = "Install the Build Tools for Visual Studio with the workload “Desktop development with C++”."
    elif sys.platform == "darwin":
        if shutil.which("clang++"):
            return
        hint = "Run: xcode-select --install"
    else:
        if any(shutil.which(name) for name in (os.environ.get("CXX") or "c++", "g++", "clang++")):
            return
        hint = "Install one, for example: sudo apt-get install g++"
    raise SetupError(f"No C++ compiler was found; llama.cpp is built from source. {hint}")
