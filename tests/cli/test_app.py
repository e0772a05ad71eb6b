"""Which way a command line goes: the window, a command, or wrong usage."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facellm.cli.app import app
from facellm.core.errors import FaceLLMError
from tests.e2e.command import command, environment

WINDOW = "facellm.ui.app.run_window"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the window was opened with; opening it is tested in tests/ui."""
    calls: list[list[str]] = []

    def run_window(argv: list[str]) -> int:
        calls.append(argv)
        return 7

    monkeypatch.setattr(WINDOW, run_window)
    return calls


def test_without_a_command_the_window_opens_and_gives_the_exit_code(opened: list[list[str]]) -> None:
    assert CliRunner().invoke(app, []).exit_code == 7
    assert opened == [sys.argv[:1]]


def test_a_photo_alone_is_opened_in_the_window(opened: list[list[str]], tmp_path: Path) -> None:
    photo = tmp_path / "my photo.jpg"
    photo.touch()
    assert CliRunner().invoke(app, [str(photo)]).exit_code == 7
    assert opened == [[sys.argv[0], str(photo)]]


@pytest.mark.parametrize("arguments", [["no-such-file.jpg"], ["nonsense", "x"], ["--nonsense"]])
def test_anything_else_is_wrong_usage_and_opens_nothing(opened: list[list[str]], arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2
    assert opened == []


def test_help_and_version_open_nothing(opened: list[list[str]]) -> None:
    for arguments in (["--help"], ["-h"], ["--version"], ["ask", "-h"]):
        assert CliRunner().invoke(app, arguments).exit_code == 0
    assert opened == []


def test_an_error_of_a_command_is_a_sentence_a_hint_and_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(argv: list[str]) -> int:
        raise FaceLLMError("The window broke.", "Open it again.")

    monkeypatch.setattr(WINDOW, broken)
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 1
    assert result.stderr == "The window broke.\nOpen it again.\n"


def test_an_interrupt_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(argv: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(WINDOW, interrupted)
    result = CliRunner().invoke(app, [])
    assert (result.exit_code, result.output) == (130, "")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENAMETOOLONG, "File name too long", "long.jpg"), "long.jpg: File name too long.\n"),
        (OSError("no reason"), "no reason.\n"),
        (PermissionError(), "PermissionError.\n"),
        (MemoryError(), "There is not enough memory.\nClose other programs"),
        (ValueError("first line\nsecond"), "should not have: ValueError: first line.\nPlease report this."),
        (AssertionError(), "should not have: AssertionError.\n"),
    ],
)
def test_what_nobody_has_foreseen_is_a_sentence_too(
    monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    def broken(argv: list[str]) -> int:
        raise error

    monkeypatch.setattr(WINDOW, broken)
    monkeypatch.delenv("FACELLM_DEBUG", raising=False)
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 1
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert ("FACELLM_DEBUG=1" in result.stderr) != isinstance(error, MemoryError)
    monkeypatch.setenv("FACELLM_DEBUG", "1")
    assert "Traceback" in CliRunner().invoke(app, []).stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_behind_stdout_is_a_sentence() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command("models", "list"), env=environment(), stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr.startswith("No space left on device.\n")
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
def test_a_reader_that_went_away_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        done = subprocess.run(
            command("models", "list"), env=environment(), stdout=pipe, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (141, "")
