"""``facellm convert`` and ``facellm parity`` as they are typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def facellm(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    homes = {name: str(folder) for name in ("XDG_DATA_HOME", "FACELLM_DATA")}
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "facellm.cli.app", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | paths | homes, timeout=200)


def test_a_checkpoint_becomes_a_pair_that_is_equal(made, tmp_path) -> None:
    done = facellm(
        "convert", made / "qwen3", "--out", tmp_path / "out", "--quant", "bf16", "--verify", "--json", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert Path(row["language"]).is_file()
    assert row["equality"]["equal"] is True
    again = facellm("parity", tmp_path / "out", made / "qwen3", "--json", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == row["equality"]


def test_a_pair_of_another_checkpoint_is_said_to_be_unequal(made, copied, tmp_path) -> None:
    from safetensors.numpy import load_file, save_file

    other = copied("qwen3")
    weights = load_file(other / "model.safetensors")
    weights["vision_tower.encoder.layer.1.mlp.fc2.weight"] *= -1
    save_file(weights, other / "model.safetensors")
    assert (
        facellm("convert", made / "qwen3", "--out", tmp_path / "out", "--no-self-test", folder=tmp_path).returncode == 0
    )
    done = facellm("parity", tmp_path / "out", other, folder=tmp_path)
    assert done.returncode == 1
    assert "NOT EQUAL" in done.stdout


def test_wrong_usage_says_what_would_be_right(made, tmp_path) -> None:
    kind = facellm("convert", made / "qwen2", "--quant", "Q3_K_S", "--out", tmp_path / "out", folder=tmp_path)
    assert kind.returncode == 1
    assert "Q4_K_M" in kind.stderr
    size = facellm("convert", made / "qwen2", "--split", "much", folder=tmp_path)
    assert size.returncode == 2
    absent = facellm("convert", tmp_path / "nothing", "--out", tmp_path / "out", folder=tmp_path)
    assert absent.returncode == 1
    assert "no folder" in absent.stderr.lower()
    assert not (tmp_path / "out").exists()
