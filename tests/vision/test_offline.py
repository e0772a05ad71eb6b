"""Finding faces opens no network socket, and importing this room loads nothing heavy."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from facellm.vision.finder import FaceModels

#: Finds the astronaut twice, waits, closes. mediapipe's reporting versions resolve a name within 10 s or on close.
CHILD = """
import sys, time, numpy as np
from pathlib import Path
from facellm.vision.decode import load_photo
from facellm.vision.finder import FaceFinder, FaceModels
landmarker, yunet, picture, seconds = sys.argv[1:]
with FaceFinder(FaceModels(Path(landmarker), Path(yunet))) as finder:
    end = time.monotonic() + float(seconds)
    faces = finder.find(load_photo(Path(picture)))
    while time.monotonic() < end:
        faces = finder.find(load_photo(Path(picture)))
print(len(faces), faces[0].landmarks is not None)
"""
SECONDS = "6"


def command(models: FaceModels, astronaut: Path) -> list[str]:
    return [sys.executable, "-c", CHILD, str(models.landmarker), str(models.yunet), str(astronaut), SECONDS]


def test_finding_faces_opens_no_network_socket(
    models: FaceModels, astronaut: Path, tmp_path: Path, child_env: dict[str, str]
) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed: apt-get install strace")
    log = tmp_path / "strace"
    probe = subprocess.run([strace, "-o", str(log), "true"], capture_output=True)
    if probe.returncode:
        pytest.skip("strace may not trace here")
    traced = [strace, "-f", "-e", "trace=%network", "-o", str(log), *command(models, astronaut)]
    done = subprocess.run(traced, capture_output=True, text=True, timeout=240, env=child_env)
    assert (done.returncode, done.stdout) == (0, "1 True\n"), done.stderr
    calls = [line for line in log.read_text().splitlines() if re.search(r"AF_INET|connect\(|sendto\(", line)]
    assert calls == []


def test_the_trace_would_see_a_socket(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    log = tmp_path / "strace"
    if strace is None or subprocess.run([strace, "-o", str(log), "true"], capture_output=True).returncode:
        pytest.skip("strace is not installed or may not trace here")
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()"
    subprocess.run([strace, "-f", "-e", "trace=%network", "-o", str(log), sys.executable, "-c", code], check=True)
    assert "AF_INET" in log.read_text()


def test_faces_are_found_where_there_is_no_network_at_all(
    models: FaceModels, astronaut: Path, child_env: dict[str, str]
) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rn", "true"], capture_output=True).returncode:
        pytest.skip("a process without network cannot be made here (unshare -rn)")
    alone = [unshare, "-rn", *command(models, astronaut)]
    done = subprocess.run(alone, capture_output=True, text=True, timeout=120, env=child_env)
    assert (done.returncode, done.stdout) == (0, "1 True\n"), done.stderr


def test_importing_this_room_loads_no_native_library(child_env: dict[str, str]) -> None:
    code = (
        "import sys, facellm.vision.crop, facellm.vision.decode, facellm.vision.facts, facellm.vision.finder\n"
        "print(sorted({'cv2', 'mediapipe', 'PIL', 'pillow_heif'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=child_env)
    assert done.stdout == "[]\n"


def test_mediapipe_is_imported_in_one_file_only(project_root: Path) -> None:
    files = [
        path.relative_to(project_root / "desktop").as_posix()
        for path in (project_root / "desktop").rglob("*.py")
        if re.search(r"^\s*(import|from) mediapipe\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert files == ["facellm/vision/mesh.py"]
