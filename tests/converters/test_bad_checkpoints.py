"""Checkpoints that are not sound: each is named for what it is, and nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from facellm.models.gguf_header import read_header
from facellm_converters.convert import Order, convert
from facellm_converters.errors import BadCheckpoint, ConversionError, Unsupported

pytest.importorskip("torch", reason="the checkpoints are made with PyTorch")

from tests.converters import checkpoints

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def quiet(_step: str, _done: int, _total: int) -> None:
    pass


def refused(folder: Path, out: Path, kind: type[ConversionError] = BadCheckpoint, **options: str) -> ConversionError:
    with pytest.raises(kind) as caught:
        convert(Order(folder, out, **options), quiet)
    assert not out.exists(), f"left behind: {list(out.iterdir())}"
    assert type(caught.value) is kind
    return caught.value


def changed(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for place, value in values.items():
        part, _, key = place.rpartition("__")
        (config[part] if part else config)[key] = value
    path.write_text(json.dumps(config))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sharded") / "checkpoint"
    checkpoints.internvl(folder, shards="300KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


@pytest.fixture
def shards(sharded, tmp_path) -> Path:
    return Path(shutil.copytree(sharded, tmp_path / "checkpoint"))


def test_shards_give_what_one_file_gives(made, sharded, tmp_path) -> None:
    one = convert(Order(made / "qwen2", tmp_path / "one", "F32", "F16", name="same"), quiet)
    many = convert(Order(sharded, tmp_path / "many", "F32", "F16", name="same"), quiet)
    assert one.mmproj.read_bytes() == many.mmproj.read_bytes()
    assert one.language.read_bytes() == many.language.read_bytes()


def test_two_fine_tunes_of_one_model_are_two_pairs(made, copied, tmp_path) -> None:
    folder = copied("qwen2")
    weights = load_file(folder / WEIGHTS)
    weights["language_model.model.layers.1.mlp.up_proj.weight"] += 0.01
    save_file(weights, folder / WEIGHTS)
    pairs = {
        read_header(convert(Order(one, tmp_path / one.name), quiet).mmproj)["facellm.pair"]
        for one in (made / "qwen2", folder)
    }
    assert len(pairs) == 2


def test_a_truncated_shard(shards, tmp_path) -> None:
    file = sorted(shards.glob("*.safetensors"))[1]
    os.truncate(file, file.stat().st_size - 100)
    assert file.name in str(refused(shards, tmp_path / "out"))


def test_a_missing_shard(shards, tmp_path) -> None:
    file = sorted(shards.glob("*.safetensors"))[1]
    file.unlink()
    assert file.name in str(refused(shards, tmp_path / "out"))


def test_an_index_that_names_absent_tensors(shards, tmp_path) -> None:
    index = json.loads((shards / INDEX).read_text())
    index["weight_map"]["language_model.model.layers.7.mlp.up_proj.weight"] = next(iter(index["weight_map"].values()))
    (shards / INDEX).write_text(json.dumps(index))
    assert "layers.7.mlp.up_proj" in str(refused(shards, tmp_path / "out"))


def test_an_index_that_points_outside(shards, tmp_path) -> None:
    index = json.loads((shards / INDEX).read_text())
    index["weight_map"]["x"] = "../secret.safetensors"
    (shards / INDEX).write_text(json.dumps(index))
    assert "outside" in str(refused(shards, tmp_path / "out"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("quant", ["F32", "F16", "BF16", "Q8_0"])
@pytest.mark.parametrize(
    "name", ["language_model.model.layers.1.mlp.down_proj.weight", "vision_tower.encoder.layer.2.layernorm_after.bias"]
)
def test_weights_that_are_no_numbers_are_named(copied, tmp_path, name, quant, value) -> None:
    folder = copied("qwen2")
    weights = load_file(folder / WEIGHTS)
    weights[name].reshape(-1)[5] = value
    save_file(weights, folder / WEIGHTS)
    error = refused(folder, tmp_path / "out", quant=quant)
    assert name.removeprefix("language_model.model.").removesuffix(".weight") in str(error)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e5])
def test_the_nanos_patch_kernel_is_named_though_the_position_table_is_made_of_it(copied, tmp_path, value) -> None:
    folder = copied("nano")
    weights = load_file(folder / WEIGHTS)
    (name,) = [name for name in weights if "patch_embedding.weight" in name]
    weights[name][3, 1, 2, 1:3] = value, -value
    save_file(weights, folder / WEIGHTS)
    assert "patch_embedding.weight holds" in str(refused(folder, tmp_path / "out"))


@pytest.mark.parametrize("value", [0, -1.5, "1.4", True, float("inf")])
def test_a_temperature_that_is_none(copied, tmp_path, value) -> None:
    folder = copied("nano")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"facellm": {"choice_temperature": value}}))
    assert "choice_temperature" in str(refused(folder, tmp_path / "out"))


def test_weights_beyond_float16(copied, tmp_path) -> None:
    folder = copied("qwen2")
    weights = load_file(folder / WEIGHTS)
    weights["language_model.model.layers.0.mlp.up_proj.weight"][3, 4] = 70000.0
    save_file(weights, folder / WEIGHTS)
    assert "7e+04" in str(refused(folder, tmp_path / "out", quant="F16"))
    assert convert(Order(folder, tmp_path / "out", "BF16"), quiet).language.is_file()


def test_a_shape_that_config_does_not_say(copied, tmp_path) -> None:
    folder = copied("qwen2")
    changed(folder, text_config__intermediate_size=256)
    error = refused(folder, tmp_path / "out")
    assert "128×64" in str(error)
    assert "256×64" in str(error)


@pytest.mark.parametrize(
    "name",
    [
        "language_model.model.layers.1.mlp.gate_proj.weight",
        "language_model.model.layers.0.self_attn.k_proj.bias",
        "vision_tower.embeddings.position_embeddings",
        "vision_tower.encoder.layer.3.attention.projection_layer.weight",
        "multi_modal_projector.linear_1.weight",
    ],
)
def test_a_weight_of_another_shape_is_named(copied, tmp_path, name) -> None:
    folder = copied("qwen2")
    weights = load_file(folder / WEIGHTS)
    weights[name] = np.concatenate([weights[name]] * 2)
    save_file(weights, folder / WEIGHTS)
    assert name in str(refused(folder, tmp_path / "out"))


def test_missing_and_superfluous_weights(copied, tmp_path) -> None:
    folder = copied("qwen2")
    weights = load_file(folder / WEIGHTS)
    name = "language_model.model.layers.1.mlp.down_proj.weight"
    left = {key: values for key, values in weights.items() if key != name}
    save_file(left, folder / WEIGHTS)
    assert "layers.1.mlp.down_proj" in str(refused(folder, tmp_path / "out"))
    save_file(weights | {"audio_tower.conv.weight": np.zeros((2, 2), np.float32)}, folder / WEIGHTS)
    assert "audio_tower.conv.weight" in str(refused(folder, tmp_path / "out"))


def test_another_architecture_is_named_with_those_supported(copied, tmp_path) -> None:
    folder = copied("qwen2")
    changed(folder, architectures=["Gemma3ForConditionalGeneration"])
    error = refused(folder, tmp_path / "out", Unsupported)
    assert "Gemma3ForConditionalGeneration" in str(error)
    assert "InternVLChatModel" in str(error)


def test_an_unknown_rope_scaling(copied, tmp_path) -> None:
    folder = copied("qwen2")
    changed(folder, text_config__rope_parameters={"rope_type": "spiral", "factor": 2.0, "rope_theta": 1e6})
    assert "spiral" in str(refused(folder, tmp_path / "out", Unsupported))


def test_an_unknown_tokenizer(copied, tmp_path) -> None:
    folder = copied("qwen2")
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\w+|\s+"
    path.write_text(json.dumps(tokenizer))
    assert r"split by \w+|\s+" in str(refused(folder, tmp_path / "out", Unsupported))


def test_pickles_are_refused(copied, tmp_path) -> None:
    folder = copied("qwen2")
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    assert "pickle" in str(refused(folder, tmp_path / "out"))


def test_files_that_exist_are_kept_without_force(made, tmp_path) -> None:
    done = convert(Order(made / "qwen2", tmp_path / "out"), quiet)
    done.mmproj.write_bytes(b"precious")
    with pytest.raises(ConversionError, match="exists already") as caught:
        convert(Order(made / "qwen2", tmp_path / "out"), quiet)
    assert "--force" in caught.value.hint
    assert done.mmproj.read_bytes() == b"precious"
    assert convert(Order(made / "qwen2", tmp_path / "out", force=True), quiet).mmproj.stat().st_size > 100


def test_with_force_no_shard_of_another_cut_stays(made, tmp_path) -> None:
    for split in (100_000, 250_000, 0):
        convert(Order(made / "qwen2", tmp_path / "out", split=split, force=True), quiet)
    assert sorted(file.name for file in (tmp_path / "out").glob("*.gguf")) == [
        "qwen2-mmproj-f16.gguf",
        "qwen2-q8_0.gguf",
    ]


def test_no_room(made, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=1000))
    error = refused(made / "qwen2", tmp_path / "out", ConversionError)
    assert "free" in str(error)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child there")
def test_interrupted_nothing_is_left(sharded, tmp_path) -> None:
    out = tmp_path / "out"
    program = (
        "import sys, time; from pathlib import Path\n"
        "from facellm_converters.convert import Order, convert\n"
        "def tell(step, done, total):\n"
        "    print(step, flush=True); time.sleep(0.3 if step == 'language part' else 0)\n"
        "try: convert(Order(Path(sys.argv[1]), Path(sys.argv[2])), tell)\n"
        "except KeyboardInterrupt: sys.exit(130)\n"
    )
    command = [sys.executable, "-c", program, str(sharded), str(out)]
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | paths) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "language part":
                assert list(out.iterdir())
                time.sleep(0.1)
                process.send_signal(signal.SIGINT)
                break
        process.stdout.read()
    assert process.returncode == 130
    assert not out.exists()
