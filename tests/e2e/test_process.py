"""The command as a process: signals, pipes, exit codes, start-up time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command import LIMIT_S, command, environment, run

Model = tuple[str, str]

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the engine's process in /proc")


class Asking:
    """A command that has begun to answer and would go on for long."""

    def __init__(self, photos: list[Path], *options: str) -> None:
        asked = ["-q", "Describe this picture.", "--face", "whole"]
        arguments = command("ask", *photos, *asked, *options)
        self.process = subprocess.Popen(
            arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.out = self.process.stdout

    def engine(self) -> int:
        """The command's one child process."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")  # listed by the thread that started them
        (child,) = " ".join(task.read_text() for task in tasks).split()
        assert "facellm.engine" in Path(f"/proc/{child}/cmdline").read_text()
        return int(child)


@pytest.fixture
def streaming(model: Model, photos: Path) -> Iterator[Asking]:
    """In the middle of the first of two answers."""
    asking = Asking([photos / "one.png", photos / "two.jpg"], "--max-tokens", "1024", *model)
    assert asking.out.readline().strip().endswith("one.png")
    assert asking.out.readline() == "The whole picture\n"
    assert asking.out.read(1)
    yield asking
    asking.process.kill()
    asking.process.communicate()


@pytest.fixture
def rows(model: Model, photos: Path) -> Iterator[Asking]:
    """In the middle of many photos, the first of which is answered."""
    # Between photos the engine waits, and a kill then only costs a new one: so there is much to ask about each.
    more = [part for number in range(40) for part in ("-q", f"Is there a hat? ({number})")]
    asking = Asking([photos / "one.png"] * 100, *more, "--max-tokens", "8", "--json", *model)
    assert asking.out.readline().startswith('{"image"')
    time.sleep(0.5)
    yield asking
    asking.process.kill()
    asking.process.wait()


@needs_proc
def test_an_engine_killed_in_mid_answer_is_a_clear_error_and_the_next_photo_is_answered(streaming: Asking) -> None:
    os.kill(streaming.engine(), signal.SIGKILL)
    out, err = streaming.process.communicate(timeout=LIMIT_S)
    assert streaming.process.returncode == 1
    _, heading, answer = out.partition("two.jpg\nThe whole picture\n")
    assert heading
    assert answer.strip()
    assert "one.png: The engine stopped working while it was answering: signal SIGKILL." in err
    assert "Traceback" not in err


@needs_proc
def test_an_engine_killed_leaves_an_error_row_for_machines_and_the_next_photo_is_answered(rows: Asking) -> None:
    os.kill(rows.engine(), signal.SIGKILL)
    row = next(row for row in map(json.loads, rows.out) if "error" in row)
    assert list(row) == ["image", "model", "faces", "error"]
    assert row["error"].startswith("The engine stopped working")
    assert len(row["faces"][0]["answers"]) < 41
    after = json.loads(rows.out.readline())
    assert "error" not in after
    assert len(after["faces"][0]["answers"]) == 41


@needs_proc
def test_ctrl_c_ends_quietly_and_takes_the_engine_along(streaming: Asking) -> None:
    engine = streaming.engine()
    begun = time.monotonic()
    streaming.process.send_signal(signal.SIGINT)
    _, err = streaming.process.communicate(timeout=LIMIT_S)
    assert streaming.process.returncode == 130
    assert time.monotonic() - begun < 10
    assert "Traceback" not in err
    assert "Interrupt" not in err
    assert not Path(f"/proc/{engine}").exists()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_while_the_model_loads_ends_quietly(model: Model, photos: Path) -> None:
    asking = Asking([photos / "one.png"], *model)
    assert asking.process.stderr is not None
    assert asking.process.stderr.readline().startswith("Loading the model")
    asking.process.send_signal(signal.SIGINT)
    out, err = asking.process.communicate(timeout=LIMIT_S)
    assert (asking.process.returncode, out) == (130, "")
    assert "Traceback" not in err


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
def test_a_reader_that_goes_away_ends_the_command_quietly(rows: Asking) -> None:
    rows.out.close()
    assert rows.process.stderr is not None
    err = rows.process.stderr.read()
    assert rows.process.wait(LIMIT_S) == 141
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ask"], "Missing argument"),
        (["ask", "photo.jpg"], "Give a photo and a question"),
        (["ask", "photo.jpg", "Hat?", "--device", "tpu"], "tpu"),
        (["ask", "photo.jpg", "Hat?", "--max-tokens", "0"], "max-tokens"),
        (["ask", "photo.jpg", "Hat?", "--choices", "yes"], "2 to 26 choices"),
        (["ask", "photo.jpg", "Hat?", "--nonsense"], "nonsense"),
        (["nonsense"], "nonsense"),
        (["faces"], "Missing argument"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], says: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stdout == ""


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    done = run("--help")
    assert done.returncode == 0
    for name in ("ask", "faces", "models", "doctor"):
        assert name in done.stdout
    script = "import sys, facellm.cli.app; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"numpy", "cv2", "PIL", "PySide6", "mediapipe", "llama_cpp", "onnx", "gguf"}
    assert heavy.isdisjoint(name.split(".")[0] for name in loaded)


def test_help_is_instant() -> None:
    """0.25 s of processor time on a 2.3 GHz core where this was written; the clock of a busy machine says nothing."""
    before = os.times()
    subprocess.run(command("--help"), env=environment(), check=True, capture_output=True)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent < 0.4


def test_version() -> None:
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("facellm ")
