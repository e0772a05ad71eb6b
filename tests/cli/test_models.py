"""``facellm models verify`` where things are missing; with everything there it is tested in tests/models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facellm.cli.app import app


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("FACELLM_HOME", str(tmp_path))
    monkeypatch.setenv("FACELLM_COMMAND", "python3 run.py")
    return tmp_path


def test_an_empty_folder_is_wrong(home: Path) -> None:
    result = CliRunner().invoke(app, ["models", "verify", "--json"])
    assert result.exit_code == 1
    assert {json.loads(line)["state"] for line in result.stdout.splitlines()} == {"missing"}
    said = "Not as they should be: face-landmarker (missing), yunet (missing), nano (missing).\n"
    assert result.stderr.endswith(f"{said}Run: python3 run.py models ensure\n")


def test_list_and_path_name_the_command_that_was_typed(home: Path) -> None:
    assert "Run: python3 run.py models build nano" in CliRunner().invoke(app, ["models", "list"]).stdout
    assert "Run: python3 run.py models build nano" in CliRunner().invoke(app, ["models", "path"]).stderr


@pytest.mark.parametrize(
    ("states", "face", "says"),
    [
        ({"yunet": "missing", "nano": "ok"}, "missing", "Run: python3 run.py models ensure"),
        ({"nano": "damaged"}, "ok", "Run: python3 run.py models build nano"),
        ({"nano": "damaged"}, "missing", "Run: python3 run.py models ensure, then: python3 run.py models build nano"),
        ({"clip-vit-b16-int8": "damaged"}, "ok", "Delete the damaged files"),
        ({"clip-vit-b16-int8": "missing", "smollm2-135m-q4_1": "missing", "nano": "outdated"}, "ok", ""),
        ({}, "ok", ""),
    ],
)
def test_what_is_wrong_and_what_helps(
    home: Path, monkeypatch: pytest.MonkeyPatch, states: dict[str, str], face: str, says: str
) -> None:
    states = {"face-landmarker": face} | states

    def state(name: str) -> tuple[str, str, Path]:
        return states.get(name, "ok"), "", home

    monkeypatch.setattr("facellm.cli.models._asset_state", lambda _store, name: state(name))
    monkeypatch.setattr("facellm.cli.models._nano_state", lambda _store: state("nano"))
    result = CliRunner().invoke(app, ["models", "verify"])
    assert result.exit_code == bool(says)
    assert (f"\n{says}" if says else "Reading nano\n") in result.stderr
