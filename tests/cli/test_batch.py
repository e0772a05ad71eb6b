"""Many photos in one command: one line a photo, whatever happens to the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
from typer.testing import CliRunner

from facellm.cli.app import app
from facellm.models.store import AssetMissing

Engine = Callable[..., None]
NAMES = ("light.png", "dark.png", "later.png")


class NoFaces:
    """A finder that finds nothing, and does ``meanwhile`` when it is asked."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self._meanwhile = meanwhile

    def find(self, _photo: object) -> list[Any]:
        self._meanwhile()
        return []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass


def ask(*arguments: str | Path) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, JSON rows, standard error."""
    result = CliRunner().invoke(app, ["ask", *map(str, arguments), "--json"])
    assert "Traceback" not in result.stderr
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()], result.stderr


def answers(row: dict[str, Any]) -> list[str]:
    return [answer["answer"] for face in row["faces"] for answer in face["answers"]]


@pytest.mark.parametrize(
    ("question", "says", "starts"),
    [("Does it die?", "The engine stopped working while it was answering", 2), ("Does it fail?", "does not fit", 1)],
)
def test_an_engine_that_fails_on_one_photo_answers_the_others(
    engine: Engine, model: str, photos: Path, loads: Path, question: str, says: str, starts: int
) -> None:
    engine()
    asked = ("-q", "Hat?", "-q", question, "-q", "Beard?", "--face", "whole", "--model", model)
    code, rows, err = ask(*(photos / name for name in NAMES), *asked)
    assert code == 1
    assert [row["image"] for row in rows] == [str(photos / name) for name in NAMES]
    first, broken, last = rows
    assert answers(first) == answers(last) == ["Hat?", question, "Beard?"]
    assert answers(broken) == ["Hat?"]
    assert says in broken["error"]
    assert broken["model"]["device"] == last["model"]["device"] == "CPU, 1 thread"
    assert err.count(says) == 1
    assert len(loads.read_text().splitlines()) == starts


def test_a_model_that_cannot_be_loaded_is_said_once_and_each_photo_has_its_line(
    engine: Engine, model: str, photos: Path, loads: Path
) -> None:
    engine(fails_from=1)
    names = [photos / name for name in ("broken.png", *NAMES)]
    code, rows, err = ask(*names, "Hat?", "--face", "whole", "--model", model)
    assert code == 1
    assert [list(row) for row in rows] == [["image", "error"]] * 4
    assert [row["image"] for row in rows] == list(map(str, names))
    assert "not a picture" in rows[0]["error"]
    assert [row["error"] for row in rows[1:]] == ["The model is no good."] * 3
    assert err.count("The model is no good.\nGet another.\n") == 1
    assert len(loads.read_text().splitlines()) == 1


def test_a_model_that_cannot_be_loaded_again_ends_the_command(engine: Engine, model: str, photos: Path) -> None:
    engine(fails_from=2)
    code, rows, _ = ask(*(photos / name for name in NAMES), "Does it die?", "--face", "whole", "--model", model)
    assert code == 1
    assert answers(rows[0]) == ["Does it die?"]
    assert rows[1]["error"].startswith("The engine stopped working")
    assert rows[2] == {"image": str(photos / "later.png"), "error": "The model is no good."}


def test_without_a_model_each_photo_has_its_line_and_nothing_is_started(
    engine: Engine, photos: Path, loads: Path
) -> None:
    engine()
    code, rows, err = ask(photos / "light.png", photos / "dark.png", "Hat?", "--model", "no-such-model")
    assert code == 1
    assert ["no model called no-such-model" in row["error"] for row in rows] == [True, True]
    assert err.count("no model called") == 1
    assert not loads.exists()


def test_faces_are_looked_for_while_the_model_loads(
    engine: Engine, model: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tmp_path / "found"
    engine(waits_for=found)
    monkeypatch.setattr("facellm.cli.faces.open_finder", lambda: NoFaces(found.touch))
    code, rows, err = ask(photos / "light.png", "Hat?", "--model", model)
    assert code == 1
    assert rows[0]["note"].startswith("No face was found")
    assert rows[0]["model"]["device"] == "CPU, 1 thread"
    assert "--face whole" in err


def test_what_goes_wrong_meanwhile_ends_the_load(
    engine: Engine, model: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> NoFaces:
        raise AssetMissing("The face models are not here.", "Get them.")

    engine(waits_for=tmp_path / "never")
    monkeypatch.setattr("facellm.cli.faces.open_finder", missing)
    code, rows, err = ask(photos / "light.png", photos / "dark.png", "Hat?", "--model", model)
    assert code == 1
    assert [row["error"] for row in rows] == ["The face models are not here."] * 2
    assert err.endswith("The face models are not here.\nGet them.\n")


def test_photos_that_cannot_be_read_do_not_wait_for_the_model(
    engine: Engine, model: str, photos: Path, tmp_path: Path
) -> None:
    engine(waits_for=tmp_path / "never")
    code, rows, _ = ask(photos / "broken.png", photos / "absent.png", "Hat?", "--face", "whole", "--model", model)
    assert (code, len(rows)) == (1, 2)


def test_a_photo_that_needs_too_much_memory_is_one_failed_photo(
    engine: Engine, model: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = iter([True, False])

    def hungry() -> None:
        if next(tries):
            raise MemoryError

    engine()
    monkeypatch.setattr("facellm.cli.faces.open_finder", lambda: NoFaces(hungry))
    code, rows, _ = ask(photos / "light.png", photos / "later.png", "Hat?", "--model", model)
    assert code == 1
    assert rows[0]["error"] == "There is not enough memory."
    assert rows[1]["faces"] == []


def test_our_own_mistake_leaves_a_line_a_photo(
    engine: Engine, model: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken() -> None:
        raise LookupError("on our side")

    engine()
    monkeypatch.setattr("facellm.cli.faces.open_finder", lambda: NoFaces(mistaken))
    code, rows, err = ask(photos / "light.png", photos / "later.png", "Hat?", "--model", model)
    assert code == 1
    assert ["LookupError: on our side" in row["error"] for row in rows] == [True, True]
    assert "FACELLM_DEBUG=1" in err


@pytest.mark.parametrize("wrong", [["x" * 2001], ["Hat?", "--face", "A+A"], ["Hat?", "--face", "A+B+C+D+E"]])
def test_a_question_that_cannot_be_put_is_wrong_usage_and_starts_nothing(
    engine: Engine, model: str, photos: Path, loads: Path, wrong: list[str]
) -> None:
    engine()
    code, rows, _ = ask(photos / "light.png", *wrong, "--model", model)
    assert (code, rows) == (2, [])
    assert not loads.exists()
