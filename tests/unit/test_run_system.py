"""What set-up does with the system: packages, long steps, turns. apt-get is a script, the rest is real."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bootstrap import console, system, turn

ROOT = Path(__file__).resolve().parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="shell scripts stand in for the system's programs")

LDCONFIG = """\
9 libs found in cache `/etc/ld.so.cache'
	libGL.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libGL.so.1
	libEGL.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libEGL.so.1
	libglib-2.0.so.0 (libc6,x86-64) => /lib/x86_64-linux-gnu/libglib-2.0.so.0
	libxkbcommon.so.0 (libc6,x86-64) => /lib/x86_64-linux-gnu/libxkbcommon.so.0
	libfontconfig.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libfontconfig.so.1
	libdbus-1.so.3 (libc6,x86-64) => /lib/x86_64-linux-gnu/libdbus-1.so.3
"""


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


# --- system libraries


def test_nothing_is_missing_where_everything_is_known() -> None:
    assert system.missing_libraries(system.OFFSCREEN, LDCONFIG) == []


def test_a_missing_library_is_named_by_its_package() -> None:
    known = LDCONFIG.replace("libEGL.so.1", "libEGL.so.0")
    assert system.missing_libraries(system.OFFSCREEN, known) == ["libegl1"]
    assert set(system.missing_libraries(system.WINDOW, known)) == set(system.WINDOW.values())


@pytest.fixture
def bare_debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system whose ldconfig knows no X11 library and whose apt-get only writes down what it was asked."""
    programs, asked = tmp_path / "bin", tmp_path / "asked.txt"
    write_program(programs / "ldconfig", f"cat {shlex.quote(str(tmp_path / 'known.txt'))}")
    write_program(programs / "apt-get", f'echo "$@" >> {shlex.quote(str(asked))}')
    for name in ("cat", "sh", "g++"):
        (programs / name).symlink_to(shutil.which(name) or "/bin/true")
    (tmp_path / "known.txt").write_text(LDCONFIG)
    monkeypatch.setattr(system, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(system, "LOG", tmp_path / "log.txt")
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("CXX", raising=False)
    return asked


@posix
@pytest.mark.skipif(sys.platform != "linux", reason="apt-get")
class TestAptGet:
    def test_root_gets_exactly_what_is_missing(self, bare_debian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        system.ensure_system("window", build=True)
        update, install = bare_debian.read_text().splitlines()
        assert update.split()[-1] == "update"
        assert set(system.WINDOW.values()) <= set(install.split())
        assert not set(system.OFFSCREEN.values()) & set(install.split())
        assert "g++" not in install.split()

    def test_others_are_told_the_command(
        self, bare_debian: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        system.ensure_system("window", build=False)
        assert not bare_debian.exists()
        assert "sudo apt-get install --no-install-recommends libxcb-cursor0" in capsys.readouterr().err

    def test_nothing_is_run_when_nothing_is_missing(
        self, bare_debian: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (bare_debian.parent / ".venv").mkdir()
        system.ensure_system("offscreen", build=True)
        assert not bare_debian.exists()
        assert not capsys.readouterr().err

    def test_a_system_found_whole_is_not_looked_at_again(self, bare_debian: Path) -> None:
        (bare_debian.parent / ".venv").mkdir()
        system.ensure_system("offscreen", build=False)
        (bare_debian.parent / "known.txt").write_text("")
        system.ensure_system("offscreen", build=False)
        assert not bare_debian.exists()

    def test_tests_need_a_display_server_and_a_font(self, bare_debian: Path) -> None:
        missing = system.missing_packages("tests", build=False)
        assert {"xvfb", "xauth"} <= set(missing)

    def test_a_compiler_is_asked_for_only_when_something_is_built(self, bare_debian: Path) -> None:
        (bare_debian.parent / "bin" / "g++").unlink()
        assert "g++" in system.missing_packages("offscreen", build=True)
        assert "g++" not in system.missing_packages("offscreen", build=False)
        with pytest.raises(console.SetupError, match=r"No C\+\+ compiler.*Install one"):
            system.require_compiler()


# --- long steps


def test_a_failed_step_shows_the_end_of_its_output_and_where_the_rest_is(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("an older step's line\n")
    code = "import sys\nfor i in range(100): print('line', i)\nsys.exit(3)"
    with pytest.raises(console.SetupError) as caught:
        console.run_step("Counting", [sys.executable, "-c", code], log, hint="Count again.")
    text = str(caught.value)
    assert "Counting failed (code 3)" in text
    assert "line 99" in text
    assert "line 70" in text
    assert "line 69" not in text
    assert str(log) in text
    assert text.endswith("Count again.")
    assert "line 0" in log.read_text()


def test_a_short_failure_shows_nothing_of_the_steps_before(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("an older step's line\n")
    with pytest.raises(console.SetupError) as caught:
        console.run_step("Failing", [sys.executable, "-c", "raise SystemExit('no luck')"], log)
    assert "no luck" in str(caught.value)
    assert "older" not in str(caught.value)


def test_without_a_terminal_a_step_is_plain_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    console.run_step("Waiting", [sys.executable, "-c", "print('done')"], tmp_path / "log.txt")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "facellm: Waiting …"
    assert re.fullmatch(r"facellm: Waiting: done in \d+ s", lines[1])


@posix
def test_on_a_terminal_a_step_is_one_line_that_renews_itself(tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", "import time\nfor i in range(5): print('piece', i, flush=True); time.sleep(0.2)"]
    code = "from pathlib import Path; from bootstrap.console import run_step; "
    code += f"run_step('Building', {command!r}, Path('log'))"
    env = {name: value for name, value in os.environ.items() if name != "CI"} | {"PYTHONPATH": str(ROOT)}
    try:
        subprocess.run([sys.executable, "-c", code], stderr=theirs, env=env, cwd=tmp_path, check=True)
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert shown.count("\n") == 1
    assert "\rfacellm: Building …" in shown
    assert "piece" in shown


# --- one at a time

HOLD = "import sys, time\nfrom pathlib import Path\nfrom bootstrap.turn import alone\n"
HOLD += "with alone(Path(sys.argv[1]), ''): print('held', flush=True); time.sleep(float(sys.argv[2]))"


@pytest.mark.parametrize("killed", [False, True])
def test_a_second_set_up_waits_for_the_first_even_if_that_is_killed(
    tmp_path: Path, killed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new folder" / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), "60" if killed else "1"],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert holder.stdout
    with holder:
        assert holder.stdout.readline().strip() == b"held"
        if killed:
            holder.kill()
        started = time.monotonic()
        with turn.alone(path, "waiting"):
            assert time.monotonic() - started < 30
    assert ("waiting" in capsys.readouterr().err) or killed


@posix
def test_a_program_that_outlives_a_killed_set_up_keeps_the_next_one_waiting(tmp_path: Path) -> None:
    """pip would go on writing into an environment that the next set-up makes anew."""
    lock, log = tmp_path / "lock", tmp_path / "log"
    code = """
import sys
from pathlib import Path
from bootstrap import console, turn
with turn.alone(Path(sys.argv[1]), ""):
    step = [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(2)"]
    console.run_step("Installing", step, Path(sys.argv[2]))
"""
    set_up = subprocess.Popen([sys.executable, "-c", code, lock, log], env=os.environ | {"PYTHONPATH": str(ROOT)})
    while not (log.exists() and log.read_text().endswith("1\n")):
        assert set_up.poll() is None
        time.sleep(0.02)
    set_up.kill()
    set_up.wait()
    started = time.monotonic()
    with turn.alone(lock, "waiting"):
        assert time.monotonic() - started > 1
