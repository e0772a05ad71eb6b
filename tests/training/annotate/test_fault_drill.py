"""The real command, killed five times while its server misbehaves: nothing lost, nothing paid twice, the same data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
import yaml

from facellm_training.annotate.dataset import read_conversations
from tests.training.annotate.conftest import settings, write_faces
from tests.training.teacher_server import KEY, TeacherServer

ROOT = Path(__file__).resolve().parents[3]
PICTURES = 12
FAULTS = ("throttle", "busy", "drop early", "drop late", "hang", "broken")


def start(recipe: Path) -> subprocess.Popen[bytes]:
    """The command as a user gives it, in a process of its own."""
    path = os.pathsep.join(str(ROOT / folder) for folder in ("desktop", "training", "converters"))
    command = [sys.executable, "-m", "facellm.cli.app", "annotate", str(recipe), "--yes"]
    environment = os.environ | {"PYTHONPATH": path, "TEACHER_KEY": KEY}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def recipe_at(folder: Path, faces: Path, server: TeacherServer, **parts: object) -> Path:
    folder.mkdir()
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings(faces, server.url, folder / "out", **parts)))
    return path


def finish(child: subprocess.Popen[bytes]) -> str:
    output, _ = child.communicate(timeout=240)
    assert child.returncode == 0, output.decode()
    return output.decode()


def kill_when(child: subprocess.Popen[bytes], server: TeacherServer, paid: int, after: float) -> None:
    """SIGKILL ``after`` seconds after the server has billed so many answers, in the midst of others."""
    until = time.monotonic() + 120
    while server.paid.total() < paid:
        assert child.poll() is None, child.communicate()[0].decode()
        assert time.monotonic() < until
        time.sleep(0.002)
    time.sleep(after)
    assert child.poll() is None, "it ended before it was killed"
    child.kill()
    child.wait()
    child.communicate()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize("mode", ["live", "batch"])
def test_killed_five_times_it_loses_nothing_and_pays_nothing_twice(mode: str, tmp_path: Path) -> None:
    faces = write_faces(tmp_path / "faces", PICTURES)
    rng = Random(f"drill {mode}")
    with TeacherServer() as calm:
        undisturbed = recipe_at(tmp_path / "calm", faces, calm, mode=mode)
        finish(start(undisturbed))
        total = calm.paid.total()
    with TeacherServer() as server:
        server.seconds = 0.05 if mode == "live" else 0.0
        server.looks = 1
        server.faults = lambda digest, number: (
            FAULTS[int(digest, 16) % 18] if number == 0 and int(digest, 16) % 18 < len(FAULTS) else ""
        )
        server.line_fault = lambda digest, number: ("429", "missing", "", "")[int(digest, 16) % 4] if not number else ""
        disturbed = recipe_at(
            tmp_path / "disturbed",
            faces,
            server,
            mode=mode,
            batches={"part_requests": 20, "rounds": 5},
            pace={"timeout_s": 0.8},
        )
        for place in sorted(rng.uniform(0.05, 0.85) for _ in range(5)):
            reached = max(round(place * total), server.paid.total() + 1)
            kill_when(start(disturbed), server, reached, rng.uniform(0, 0.05))
        finish(start(disturbed))
        assert set(server.paid.values()) == {1}, "something was paid for twice"
        assert server.paid.total() == total, "something was lost"
        assert server.paid.keys() == calm.paid.keys()
    for name in ("conversations.jsonl", "conversations.parquet", "dataset_info.json", "pictures.json"):
        assert (tmp_path / "disturbed/out" / name).read_bytes() == (tmp_path / "calm/out" / name).read_bytes(), name
    assert len(read_conversations(tmp_path / "disturbed/out/conversations.jsonl")) > PICTURES * 5


@pytest.mark.skipif(os.name == "nt", reason="SIGINT to a child")
def test_interrupted_it_waits_for_what_is_paid_and_goes_on_later(tmp_path: Path) -> None:
    faces = write_faces(tmp_path / "faces", 4)
    with TeacherServer() as server:
        server.seconds = 0.3
        recipe = recipe_at(tmp_path / "run", faces, server, teacher={"store": False})
        child = start(recipe)
        while server.paid.total() < 6:
            assert child.poll() is None, child.communicate()[0].decode()
            time.sleep(0.005)
        child.send_signal(signal.SIGINT)
        output, _ = child.communicate(timeout=60)
        assert child.returncode == 130, output.decode()
        assert "Traceback" not in output.decode()
        assert (tmp_path / "run/out/report.html").exists()
        finish(start(recipe))
        assert set(server.paid.values()) == {1}


@pytest.mark.skipif(os.name == "nt", reason="SIGINT to a child")
def test_what_waits_in_a_batch_is_not_asked_live(tmp_path: Path) -> None:
    faces = write_faces(tmp_path / "faces", 2)
    with TeacherServer() as server:
        server.looks = 10**9
        child = start(recipe_at(tmp_path / "run", faces, server, mode="batch"))
        while not any(batch["looks"] for batch in server.batches.values()):
            assert child.poll() is None, child.communicate()[0].decode()
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=60)
        assert child.returncode == 130
        live = tmp_path / "live.yaml"
        live.write_text(yaml.safe_dump(settings(faces, server.url, tmp_path / "run/out")))
        assert "18 requests wait in a batch" in finish(start(live))
        assert server.asked.total() == 0


@pytest.mark.skipif(os.name == "nt", reason="SIGINT to a child")
def test_ctrl_c_does_not_wait_as_long_as_a_server_asks(tmp_path: Path) -> None:
    faces = write_faces(tmp_path / "faces", 2)
    with TeacherServer() as server:
        server.retry_after = "3600"
        server.faults = lambda _digest, _number: "throttle"
        child = start(recipe_at(tmp_path / "run", faces, server))
        while not server.asked:
            assert child.poll() is None, child.communicate()[0].decode()
            time.sleep(0.01)
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=60)
        assert child.returncode == 130


def test_two_runs_of_one_folder_do_not_ask_side_by_side(tmp_path: Path) -> None:
    faces = write_faces(tmp_path / "faces", 2)
    with TeacherServer() as server:
        server.seconds = 0.5
        recipe = recipe_at(tmp_path / "run", faces, server, pace={"concurrency": 1, "timeout_s": 20})
        first = start(recipe)
        while not server.asked:
            assert first.poll() is None, first.communicate()[0].decode()
            time.sleep(0.01)
        second = start(recipe)
        output, _ = second.communicate(timeout=60)
        assert second.returncode == 1
        assert "Another run is using" in output.decode()
        finish(first)
        assert set(server.paid.values()) == {1}
