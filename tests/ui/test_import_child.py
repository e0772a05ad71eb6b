"""Importing from the window: a process of its own, its progress, its errors, its end when it is cancelled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from facellm.core.child import child_command
from facellm.core.package import ModelPackage
from facellm.models.importing import ImportOrder
from facellm.ui.importing import Import, ImportCancelled, ImportedModel, ImportFailed, ImportStep
from facellm.ui.tasks import ignore
from tests.imports import left, linked
from tests.models.test_importing import pair as write_pair

if find_spec("safetensors"):
    from tests.converters.conftest import made  # noqa: F401 - a fixture

MODULE = "facellm.cli.importing"


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("FACELLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FACELLM_OFFLINE", "1")
    return tmp_path / "home"


@pytest.fixture
def pair(nano: ModelPackage, tmp_path: Path) -> Path:
    return linked(nano, tmp_path / "fetched")


def test_an_import_reports_and_gives_the_model(home: Path, pair: Path) -> None:
    heard: list[object] = []
    found = Import(ImportOrder(str(pair), "mine")).run(heard.append)
    assert found == ImportedModel("mine", found.title, ())
    assert "nano" in found.title.lower()
    assert left(home) == ["mine"]
    steps = [step for step in heard if isinstance(step, ImportStep)]
    assert len(steps) == len(heard) < 200
    size = sum(file.stat().st_size for file in pair.iterdir())
    assert {step.total for step in steps if step.step == "copying"} == {size}
    assert any(step.step.startswith("trying it") for step in steps)
    assert all(0 <= step.done <= step.total for step in steps if step.total)


def test_an_error_is_said_with_what_to_do(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match="no file or folder") as caught:
        Import(ImportOrder(str(tmp_path / "nothing"))).run(ignore)
    assert caught.value.hint
    # Whole files, and no model: what the engine says comes through, and nothing stays.
    with pytest.raises(ImportFailed) as caught:
        Import(ImportOrder(str(write_pair(tmp_path / "x")), "mine")).run(ignore)
    assert str(caught.value)
    assert left(home) == []


def test_what_nobody_has_foreseen_is_an_error_too(home: Path) -> None:
    with pytest.raises(ImportFailed, match="should not have: AttributeError") as caught:
        Import(ImportOrder(source=5)).run(ignore)  # type: ignore[arg-type]
    assert "report" in caught.value.hint


def cancelled_at(step: str, order: ImportOrder) -> None:
    """Start an import, cancel it at that step, and see that it ends soon and takes its own children along."""
    task, ended, begun = Import(order), [], threading.Event()

    def hear(event: object) -> None:
        if isinstance(event, ImportStep) and event.step.startswith(step):
            begun.set()

    def run() -> None:
        try:
            task.run(hear)
        except ImportCancelled:
            ended.append("cancelled")

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(60)
    assert task._process is not None
    child = psutil.Process(task._process.pid)
    family = [child, *child.children(recursive=True)]
    before = time.monotonic()
    task.cancel()
    assert time.monotonic() - before < 0.1
    thread.join(10)
    assert ended == ["cancelled"]
    assert task.cancelled
    assert not psutil.wait_procs(family, timeout=5)[1]


@pytest.mark.parametrize("step", ["copying", "trying it"])
def test_a_cancelled_import_leaves_nothing(home: Path, pair: Path, step: str) -> None:
    cancelled_at(step, ImportOrder(str(pair), "mine"))
    assert left(home) == []


@pytest.mark.skipif(not find_spec("safetensors"), reason="the converters' libraries are not installed")
@pytest.mark.parametrize("step", ["image part", "quantising"])
def test_a_cancelled_conversion_leaves_nothing(home: Path, request: pytest.FixtureRequest, step: str) -> None:
    made = request.getfixturevalue("made")
    before = sorted(made.rglob("*"))
    cancelled_at(step, ImportOrder(str(made / "qwen3"), "mine", "Q4_K_M"))
    assert left(home) == []
    assert sorted(made.rglob("*")) == before


def test_an_import_cancelled_before_it_began_does_not_begin(home: Path, pair: Path) -> None:
    task = Import(ImportOrder(str(pair), "mine"))
    task.cancel()
    with pytest.raises(ImportCancelled):
        task.run(ignore)
    assert left(home) == []


def test_a_child_that_ends_without_a_word(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facellm.core.child._START", "import os; os._exit(7)")
    with pytest.raises(ImportFailed, match=r"exit code 7") as caught:
        Import(ImportOrder("x")).run(ignore)
    assert caught.value.hint
    monkeypatch.setattr("facellm.core.child._START", "pass")
    with pytest.raises(ImportFailed, match="without a model"):
        Import(ImportOrder("x")).run(ignore)


def test_a_child_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = 'import time; print(\'{"step": "deaf", "done": 0, "total": 0}\', flush=True); time.sleep(600)'
    monkeypatch.setattr("facellm.core.child._START", deaf)
    monkeypatch.setattr("facellm.ui.child.GRACE_S", 0.2)
    task = Import(ImportOrder("x"))
    with pytest.raises(ImportCancelled):
        task.run(lambda _: task.cancel())


def test_a_killed_child_takes_its_engine_along_and_the_next_import_tidies_up(home: Path, pair: Path) -> None:
    task = Import(ImportOrder(str(pair), "mine"))

    def kill(event: object) -> None:
        if isinstance(event, ImportStep) and event.step.startswith("trying it:"):
            assert task._process is not None
            engines = psutil.Process(task._process.pid).children()
            task._process.kill()
            assert engines
            assert not psutil.wait_procs(engines, timeout=10)[1]

    with pytest.raises(ImportFailed, match="unexpectedly"):
        task.run(kill)
    assert left(home) == [".importing-mine"]
    assert Import(ImportOrder(str(pair), "other")).run(ignore).name == "other"
    assert left(home) == ["other"]


def test_one_step_is_told_ten_times_a_second_at_most() -> None:
    import io

    from facellm.cli.importing import _teller

    out = io.StringIO()
    tell, until = _teller(out), time.monotonic() + 0.35
    done = 0
    while time.monotonic() < until:
        done += 1
        tell("copying", done, 10**9)
    tell("trying it", 0, 0)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert done > 100
    assert 3 <= len(lines) <= 6
    assert lines[-1] == {"step": "trying it", "done": 0, "total": 0}


def test_what_a_library_prints_is_not_taken_for_a_line(home: Path, pair: Path) -> None:
    """The child as a program of its own, with something that prints where the engine would be."""
    chatty = (
        "import sys; from facellm.engine.client import EngineClient as E; load = E.load\n"
        "def loud(*a): print('loading...'); return load(*a)\n"
        "E.load = loud\nfrom facellm.cli.importing import main; main()"
    )
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    order = json.dumps({"source": str(pair), "name": "mine"})
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", chatty], stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=os.environ | paths
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(order + "\n")
        child.stdin.flush()
        lines = [json.loads(line) for line in child.stdout]
    assert lines[-1]["name"] == "mine"


def test_the_child_is_on_the_list_of_those_a_frozen_application_starts() -> None:
    assert Import.module == MODULE
    assert MODULE in child_command(MODULE)
