"""A run that is killed goes on to the very numbers of one that is not; so does one on two devices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from facellm_training.lora import state
from facellm_training.lora.loop import run
from facellm_training.lora.recipe import read_recipe
from facellm_training.lora.run import prepare, train_lora

ROOT = Path(__file__).resolve().parents[3]
LONG = {"optimiser": {"epochs": 8.0}, "save_every": 3, "evaluation": {"every": 6}, "dropout": 0.1}


def environment() -> dict[str, str]:
    path = os.pathsep.join(str(ROOT / folder) for folder in ("", "desktop", "training", "converters"))
    return os.environ | {"PYTHONPATH": path, "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def start(recipe: Path, *launcher: str) -> subprocess.Popen[str]:
    command = [*(launcher or (sys.executable,)), "-m", "facellm.cli.app", "train", str(recipe)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def numbers(out: Path) -> list[tuple[int, float, float]]:
    return [(row["step"], row["loss"], row["gradient_norm"]) for row in state.rows(out)]


def weights(out: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(out / state.ADAPTER / "adapter_model.safetensors")


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(recipe_file, one_thread, tmp_path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    recipe = recipe_file("killed.yaml", out=str(killed), **LONG)
    process = start(recipe)
    until = time.monotonic() + 120
    # Between two states: the steps behind the last one come again.
    while len(state.rows(killed)) < 8 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    said, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, said
    saved = torch.load(killed / state.STATE, weights_only=True)
    assert 3 <= len(state.rows(killed)) < 36 and '"step": ' in saved["progress"]
    (killed / f"{state.STATE}.part").write_bytes(b"half a state")
    told: list[str] = []
    train_lora(read_recipe(recipe), told.append)
    assert any(line.startswith("Going on after step") for line in told)
    train_lora(read_recipe(recipe_file("whole.yaml", out=str(whole), **LONG)), told.append)
    assert len(numbers(whole)) == 36
    assert numbers(killed) == numbers(whole)
    one, other = weights(killed), weights(whole)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert list((whole / "tensorboard").glob("events*"))
    assert (whole / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert "| 0 |" in (whole / "report.md").read_text()


def test_a_finished_run_is_finished(session) -> None:
    made = session()
    run(made)
    before = (made.out / state.METRICS).read_bytes()
    again = session()
    assert run(again).step == made.order.steps
    assert (made.out / state.METRICS).read_bytes() == before


@pytest.mark.slow
def test_two_devices_take_the_same_steps(recipe_file, session, tmp_path) -> None:
    """Through ``accelerate launch``, as several graphics cards are: here two processes."""
    two = tmp_path / "two"
    settings = {"optimiser": {"batch": 6, "epochs": 2.0}, "speed": {"row_tokens": 256, "precision": "fp32"}}
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2",
                "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
                "--main_process_port", "0"]  # fmt: skip
    process = start(recipe_file("two.yaml", out=str(two), **settings), *launcher)
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert f"Adapter: {two / 'adapter'}" in said
    made = prepare(read_recipe(recipe_file("one.yaml", out=str(tmp_path / "one"), **settings)), lambda _: None)
    run(made)
    one, other = numbers(made.out), numbers(two)
    assert len(one) == 6
    for (step, loss, norm), (step2, loss2, norm2) in zip(one, other, strict=True):
        assert (step, pytest.approx(loss, rel=1e-4), pytest.approx(norm, rel=1e-3)) == (step2, loss2, norm2)


@pytest.mark.slow
def test_a_run_goes_on_with_its_weights_divided_among_devices(recipe_file, session, tmp_path) -> None:
    """Begun on one device, killed, ended by FSDP2 on two; beside a run on one."""
    settings = {
        "optimiser": {"batch": 6, "epochs": 2.0}, "image_tower": {"rank": 2, "alpha": 4, "lr": 1e-3},
        "projector": {"full": True, "lr": 1e-3},
    }  # fmt: skip
    whole = prepare(read_recipe(recipe_file("whole.yaml", out=str(tmp_path / "whole"), **settings)), lambda _: None)
    run(whole)
    begun = prepare(read_recipe(recipe_file("begun.yaml", out=str(tmp_path / "begun"), **settings)), lambda _: None)
    passes = []

    def stopping(_: str) -> None:
        passes.append(len(state.rows(begun.out)))
        if passes[-1] == 3:  # told of the evaluation after step 3, behind the state after step 2
            raise KeyboardInterrupt

    begun.tell = stopping
    with pytest.raises(KeyboardInterrupt):
        run(begun)
    divided = {
        "ACCELERATE_USE_CPU": "true", "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "true", "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    }  # fmt: skip
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
               str(Path(__file__).with_name("sharded.py")), str(tmp_path / "begun.yaml")]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, env=environment() | divided, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Going on after step 2 of 6." in done.stdout
    for (step, loss, norm), (step2, loss2, norm2) in zip(numbers(whole.out), numbers(begun.out), strict=True):
        assert (step, pytest.approx(loss, rel=1e-4), pytest.approx(norm, rel=1e-3)) == (step2, loss2, norm2)
    state.save_adapter(whole.out, state.ADAPTER, whole.accelerator, whole.model)
    one, other = weights(whole.out), weights(begun.out)
    assert one.keys() == other.keys()
    assert all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)
