"""From a recipe to the list of models: trained, converted, compared, evaluated, described; and gone on with."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from facellm.cli.app import app
from facellm.engine.errors import EngineDied
from facellm.models.packages import list_packages
from facellm.models.store import HOME_ENV, AssetStore
from facellm_converters.equality.compare import Report
from facellm_training.evaluate.backends import GgufBackend
from facellm_training.lora.conversations import Conversation, read_conversations, write_conversations
from facellm_training.release import pairs
from facellm_training.release.held_out import held_out_items
from tests.training.evaluate.drawn_benchmark import draw_benchmark

COLUMNS = ["base", "F16", "Q8_0", "Q4_K_M"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AssetStore:
    monkeypatch.setenv(HOME_ENV, str(tmp_path / "home"))
    return AssetStore()


def fairface(folder: Path, pictures: int) -> Path:
    """Coloured squares with labels, one file."""
    rows = []
    for number in range(pictures):
        sink = io.BytesIO()
        Image.new("RGB", (64, 64), (20 * number, 90, 120)).save(sink, "PNG")
        picture = {"bytes": sink.getvalue(), "path": f"{number}.jpg"}
        rows.append({"image": picture, "age": number % 9, "gender": number % 2, "race": 0})
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "validation-00000-of-00001.parquet")
    return folder


def test_a_recipe_becomes_models_in_the_list_with_one_table(recipe_file, one_thread, home, tmp_path) -> None:
    data, bench = fairface(tmp_path / "fairface", 6), draw_benchmark(tmp_path / "bench")
    recipe = recipe_file(release={"fairface": str(data), "facexbench": str(bench), "limit": 4})
    done = CliRunner().invoke(app, ["release", str(recipe), "--name", "faces"])
    assert done.exit_code == 0, done.output
    listed = {package.name: package for package in list_packages(home)}
    assert {"faces-q8_0", "faces-q4_k_m"} <= set(listed) and "faces-base" not in listed
    assert "in the list of models as faces-q8_0" in done.output
    out = tmp_path / "out" / "release"
    for name, questions in (("held-out", 3), ("fairface", 8), ("facexbench", 8)):
        report = json.loads((out / name / "report.json").read_text())
        assert list(report["models"]) == COLUMNS
        assert (report["n"] if name == "facexbench" else report["questions"]) == questions
        assert len({report["settings"]["models"][column]["llm_sha256"] for column in COLUMNS}) == 4
        assert {(row["first"], row["second"]) for row in report["comparisons"]} >= {("base", "F16"), ("F16", "Q8_0")}
    card = listed["faces-q8_0"].llm.with_name("faces-q8_0.md").read_text()
    for text in (
        "| base | F16 | Q8_0 | Q4_K_M |", "closed answers  the same letter", "- pictures trained on: 9", "Not for:",
        "| F16 | Q4_K_M |", "Calibration error", "## Files", "| SHA-256 |", "### FairFace, validation",
        "### FaceXBench, zero-shot",
    ):  # fmt: skip
        assert text in card, text
    assert str(tmp_path) not in card, "a card is passed on: it names no folder of this machine"
    assert listed["faces-q8_0"].llm.name == "faces-q8_0.gguf", "the kind is said once"
    told = (tmp_path / "out" / "release.md").read_text()
    assert "tuned against base" in told and "(release/held-out/report.html)" in told


def test_what_is_done_is_not_done_again(recipe_file, one_thread, home, tmp_path, monkeypatch) -> None:
    """The engine dies for good in the middle of the evaluation; the same command then only asks what is missing."""
    command = ["release", str(recipe_file()), "--name", "faces", "--quant", "q8_0"]
    answer, asked = GgufBackend.answer, []

    def dying(self, pictures, items):
        if len(asked) == 4:
            raise EngineDied("The engine died.", "Nothing helps.")
        asked.append(items)
        return answer(self, pictures, items)

    def counted(self, pictures, items):
        asked.append(items)
        return answer(self, pictures, items)

    with monkeypatch.context() as patch:
        patch.setattr(GgufBackend, "answer", dying)
        patch.setattr("facellm_training.evaluate.asking.DEATHS", 1)
        first = CliRunner().invoke(app, command)
    assert first.exit_code != 0 and "All earlier answers are kept" in first.output
    asked.clear()
    monkeypatch.setattr(GgufBackend, "answer", counted)
    monkeypatch.setattr(pairs, "convert", None)
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0, again.output
    assert "step 1 of" not in again.output and "faces-q8_0 is there already" in again.output
    assert sum(map(len, asked)) == 3 * 3 - 4, "three columns of three questions, four of them answered before"


def test_a_pair_that_was_changed_is_made_again(recipe_file, one_thread, home, tmp_path) -> None:
    command = ["release", str(recipe_file()), "--name", "faces", "--quant", "q8_0"]
    assert CliRunner().invoke(app, command).exit_code == 0
    pair = home.models / "faces-q8_0"
    language = next(path for path in pair.glob("*.gguf") if "mmproj" not in path.name)
    whole = language.read_bytes()
    language.write_bytes(whole[:-100])
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0 and "Converting faces-q8_0" in again.output
    assert "faces-base is there already" in again.output and language.read_bytes() == whole


def test_a_pair_that_answers_otherwise_is_not_released(recipe_file, one_thread, home, tmp_path, monkeypatch) -> None:
    real = pairs.compare_with

    def unequal(*given: Any) -> Report:
        return replace(real(*given), equal=False, faults=("the image tokens differ",))

    monkeypatch.setattr(pairs, "compare_with", unequal)
    done = CliRunner().invoke(app, ["release", str(recipe_file()), "--name", "faces", "--quant", "q8_0"])
    assert done.exit_code != 0 and "does not answer as its checkpoint does" in done.output
    assert "NOT EQUAL: the image tokens differ" in (tmp_path / "out" / "release.md").read_text()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"quants": ["Q9_9"]}, "release.quants has 'Q9_9'; it may be"),
        ({"quants": []}, "must name at least one kind"),
        ({"wide": "wide"}, "release.wide has 'wide'"),
        ({"fairface": "/nowhere"}, "holds no validation-*.parquet"),
        ({"facexbench": "/nowhere"}, "benchmark"),
    ],
)
def test_what_is_wrong_is_said_before_the_training(recipe_file, home, tmp_path, settings, said) -> None:
    done = CliRunner().invoke(app, ["release", str(recipe_file(release=settings))])
    assert done.exit_code != 0 and said in " ".join(done.output.split()), done.output
    assert not (tmp_path / "out").exists()


def test_held_out_questions_as_they_are_asked(tmp_path: Path) -> None:
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    one, two = (tmp_path / "a.png",), (tmp_path / "a.png", tmp_path / "b.png")
    written = [
        Conversation("1", one, (("user", "<image>\nWhich?\nA) x\nB) y"), ("assistant", "B")), "pose", "choice",
                     ("x", "y"), "B"),
        Conversation("2", one, (("user", "<image>Is it?"), ("assistant", "No, it is not.")), "", "yesno",
                     ("Yes", "No"), "No"),
        Conversation("3", two, (("user", "<image><image>Both?"), ("assistant", "Yes.")), "", "compare",
                     ("Yes", "No"), "Yes"),
        Conversation("4", two, (("user", "First: <image>, then: <image>. Both?"), ("assistant", "Yes.")), "",
                     "compare", ("Yes", "No"), "Yes"),
        Conversation("5", one, (("user", "<image>Describe it."), ("assistant", "It is a picture."))),
    ]  # fmt: skip
    file = tmp_path / "held_out.jsonl"
    write_conversations(file, written)
    assert read_conversations(file).conversations == written
    items, skipped = held_out_items(written)
    assert [(item.prompt, item.keys[item.right], len(item.pictures)) for item in items] == [
        ("Which?\nA) x\nB) y", "B", 1), ("Is it?", "no", 1), ("Both?", "yes", 2),
    ]  # fmt: skip
    assert list(skipped) == ["4"] and items[0].groups == {"format": "choice", "aspect": "pose"}
