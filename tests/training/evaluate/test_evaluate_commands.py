"""The real commands with the real nano, in small: both scores, one table, resumed after SIGKILL, the whole report."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import facellm
import facellm_training
from facellm.core.package import ModelPackage
from facellm_training.evaluate.answer_parser import official_letter
from tests.e2e import command as program
from tests.training.evaluate.drawn_benchmark import draw_benchmark

pytest.importorskip("matplotlib")

#: The command's own process takes the training package from where these tests do.
SOURCES = {"PYTHONPATH": os.pathsep.join(str(Path(package.__file__ or "").parents[1])
                                         for package in (facellm, facellm_training))}  # fmt: skip


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return program.run(*arguments, env=SOURCES)


def last_line(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def benchmark(nano: ModelPackage, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of results, and the JSON line: two columns of one model, one question with a broken picture."""
    folder = tmp_path_factory.mktemp("facexbench")
    draw_benchmark(folder)
    broken = folder / "benchmark/images/drawn/question_2_1.png"
    broken.write_bytes(broken.read_bytes()[:100])
    model = nano.llm.parent
    done = run("evaluate", "facexbench", "--root", folder, "--model", f"first={model}", "--model", f"second={model}",
               "--max-tokens", "6", "--out", folder / "out", "--json")  # fmt: skip
    return folder / "out", last_line(done)


def test_the_json_line_has_both_scores(benchmark: tuple[Path, dict[str, Any]]) -> None:
    report = benchmark[1]
    assert report["n"] == 7 and report["files"] == 4 and not report["complete"]
    for kind in ("official", "constrained"):
        assert set(report[kind]) == {"overall", "category", "sub_category"}
        assert 0 <= report[kind]["overall"] <= 1
        assert set(report[kind]["category"]) == {"bias_fairness", "attributes_expression", "tools_use"}
        assert set(report[kind]["sub_category"]) == {"age", "gender", "expression", "tools_retrieval"}
        low, high = report["intervals"][kind]["overall"]
        assert low <= report[kind]["overall"] <= high
        assert report["counts"][kind]["category"] == {"bias_fairness": 4, "attributes_expression": 1, "tools_use": 2}
    assert report["without_overlap"]["n"] == 4
    assert list(report["skipped"]) == ["unreadable picture"] and sum(report["skipped"].values()) == 1


def test_the_table_has_a_row_a_question_and_the_scores_follow_from_it(benchmark: tuple[Path, dict[str, Any]]) -> None:
    out, report = benchmark
    rows = pq.read_table(out / "results.parquet").to_pylist()
    assert len(rows) == 2 * 7
    first = [row for row in rows if row["model"] == "first"]
    for kind in ("official", "constrained"):
        assert report[kind]["overall"] == pytest.approx(np.mean([row[kind] == row["right"] for row in first]))
    for row in first:
        assert row["official"] == official_letter(row["text"], row["options"])
        assert row["constrained"] == row["keys"][int(np.argmax(row["p"]))] and sum(row["p"]) == pytest.approx(1)
    # the second column is the same model: nothing was asked again, and nothing differs
    assert [row["seconds"] for row in first] == [row["seconds"] for row in rows[7:]]
    assert all(row["p"] == 1 and row["difference"] == 0 for row in report["comparisons"])


def test_everything_that_decides_a_score_is_on_record(
    benchmark: tuple[Path, dict[str, Any]], nano: ModelPackage
) -> None:
    settings = json.loads((benchmark[0] / "report.json").read_text())["settings"]
    model = settings["models"]["first"]
    assert {"llm_sha256", "mmproj_sha256", "runtime", "tiles", "seed", "decoding", "context"} <= set(model)
    assert "llama.cpp" in model["runtime"] and model["llm"] == nano.llm.name
    assert settings["evaluation"]["mode"] == "zero-shot" and settings["evaluation"]["max_tokens"] == 6


def test_the_page_is_whole_in_itself_and_shows_mistakes(benchmark: tuple[Path, dict[str, Any]]) -> None:
    page = (benchmark[0] / "report.html").read_text()
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    plots = re.findall(r'class="plot"[^>]*src="data:image/png;base64,([^"]+)"', page)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(plots[0]))).convert("L"))
    assert pixels.shape[1] > 600 and pixels.std() > 10  # something is drawn
    wrong = [row for row in pq.read_table(benchmark[0] / "results.parquet").to_pylist()
             if row["model"] == "first" and row["constrained"] != row["right"]]  # fmt: skip
    assert wrong and page.count("<figure>") == 2 * len(wrong)
    shown = re.findall(r'<figure><img alt="" src="data:image/jpeg;base64,([^"]+)"', page)
    assert Image.open(io.BytesIO(base64.b64decode(shown[0]))).size[0] <= 128
    assert all(escape(row["prompt"][-1500:]) in page for row in wrong)  # an answer says little without its question
    assert "unreadable picture" in page and "Between models" in page
    text = (benchmark[0] / "report.md").read_text()
    assert "| overall | 7 |" in text and "Not the whole benchmark: 7 of 5000" in text and "base64" not in text


def drawn_fairface(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        out = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (224, 224, 3), np.uint8)).save(out, "PNG")
        picture = {"bytes": out.getvalue(), "path": f"{number}.png"}
        rows.append({"image": picture, "age": number % 9, "gender": number % 2, "race": number % 7})
    rows[3]["image"]["bytes"] = b"no picture"
    rows[4]["age"] = 40
    pq.write_table(pa.Table.from_pylist(rows), folder / "validation-00000-of-00001.parquet")
    return folder


def journal(out: Path) -> dict[str, str]:
    path = out / "answers.sqlite"
    if not path.exists():
        return {}
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
    try:
        return dict(database.execute("SELECT item, reply FROM answer"))
    except sqlite3.OperationalError:  # its tables are being made
        return {}
    finally:
        database.close()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_killed_in_the_middle_it_goes_on_and_asks_nothing_twice(nano: ModelPackage, tmp_path: Path) -> None:
    data, out = drawn_fairface(tmp_path, 8), tmp_path / "out"
    arguments = ("evaluate", "fairface", "--data", data, "--model", nano.llm.parent, "--out", out, "--json")
    running = subprocess.Popen(program.command(*arguments), env=program.environment(SOURCES), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    until = time.monotonic() + 200
    while len(journal(out)) < 4 and time.monotonic() < until and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = journal(out)
    assert 4 <= len(before) < 13, "killed too late to show anything"
    assert not (out / "report.json").exists()
    report = last_line(run(*arguments))
    after = journal(out)
    # seconds are part of a reply: a question that was asked again would have others
    assert before == {name: reply for name, reply in after.items() if name in before}
    assert len(after) == 13 and report["questions"] == 13 and report["n"] == 7
    assert report["skipped"] == {"unreadable picture": 2, "unknown label: age 40": 1}
    assert set(report["accuracy"]) == {"age", "age ±1", "gender"} and set(report["ece"]) == {"age", "gender"}
    assert set(report["groups"]) == {f"{a} by {b}" for a in ("age", "gender") for b in ("age", "gender", "race")}
    low, high = report["interval"]["gender"]
    assert low <= report["accuracy"]["gender"] <= high


def test_an_own_sheet_over_a_folder(nano: ModelPackage, astronaut: Path, tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(astronaut.read_bytes())
    with (tmp_path / "labels.csv").open("w", newline="") as lines:
        csv.writer(lines).writerows([["file", "hat", "light"], ["one.png", "0", "bright"], ["gone.png", "1", "dark"]])
    sheet = tmp_path / "hats.yaml"
    sheet.write_text(
        "groups: [light]\nquestions:\n- id: hat\n  question: Is this person wearing a hat or other headwear?\n"
        "  options: [yes, no]\n  truth: {1: yes, 0: no}\n"
    )
    arguments = ("evaluate", "sheet", sheet, "--images", tmp_path, "--model", nano.llm.parent, "--out", tmp_path / "o")
    report = last_line(run(*arguments, "--json"))
    assert report["n"] == 1 and report["skipped"] == {"unreadable picture": 1}
    assert set(report["accuracy"]) == {"hat"} and report["groups"]["hat by light"]["n"] == {"bright": 1}
    (tmp_path / "labels.csv").write_text("file,light\none.png,dim\n")
    done = run(*arguments)
    assert done.returncode == 1 and "has no column hat" in done.stderr and "It has: file, light." in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("facexbench", "--root", "{empty}"), 1, "no question files of FaceXBench"),
        (("fairface", "--data", "{empty}"), 1, "holds no validation-*.parquet"),
        (("facexbench", "--root", "{empty}", "--mode", "guess"), 2, "zero-shot"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_sentence(arguments: tuple[str, ...], code: int, said: str, tmp_path: Path) -> None:
    given = [text.format(empty=tmp_path) for text in arguments]
    done = run("evaluate", *given, "--model", "nothing", "--out", tmp_path / "out")
    assert done.returncode == code
    assert said in done.stderr and "Traceback" not in done.stderr
