"""``facellm models import`` as it is typed: copied or converted, tried in the engine, and there to be asked."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from facellm.cli.app import app
from facellm.cli.importing import run_import
from facellm.core.package import ModelPackage
from facellm.engine.client import EngineClient
from facellm.engine.errors import OutOfMemory, RuntimeChanged
from facellm.models.importing import ImportOrder, ImportRefused
from facellm.models.packages import find_package
from facellm.models.store import AssetStore
from tests.imports import left, linked

if find_spec("safetensors"):
    from tests.converters.conftest import made  # noqa: F401 - a fixture


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, assets: AssetStore) -> Path:
    """A data folder with the face models and no model."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "assets").symlink_to(assets.assets)
    monkeypatch.setenv("FACELLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FACELLM_OFFLINE", "1")
    return tmp_path / "home"


@pytest.fixture
def pair(nano: ModelPackage, tmp_path: Path) -> Path:
    """The embedded model's own files, in a folder of somebody's."""
    return linked(nano, tmp_path / "fetched")


def facellm(*words: object) -> Any:
    return CliRunner().invoke(app, ["models", "import", *map(str, words)])


def changed(file: Path, old: bytes, new: bytes) -> None:
    """Another file of the same name in its place, with the first ``old`` replaced."""
    data = file.read_bytes()
    at = data.index(old)
    file.unlink()
    file.write_bytes(data[:at] + new + data[at + len(old) :])


def test_a_pair_is_copied_and_can_be_asked(home: Path, pair: Path, astronaut: Path) -> None:
    done = facellm(pair, "--name", "mine", "--json")
    assert done.exit_code == 0, done.stderr
    row = json.loads(done.stdout)
    assert (row["name"], row["notes"], row["tile"]) == ("mine", [], 224)
    assert Path(row["llm"]).parent == home / "models" / "mine"
    assert left(home) == ["mine"]
    assert "opying" in done.stderr
    assert "rying it" in done.stderr
    words = ["ask", str(astronaut), "Is this person smiling?", "--choices", "yes|no", "--model", "mine", "--json"]
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 0, answer.stderr
    assert '"yes"' in answer.stdout
    again = facellm(pair, "--name", "mine")
    assert again.exit_code == 1
    assert "called mine already" in again.stderr
    assert left(home) == ["mine"]


def test_a_damaged_pair_is_refused_and_nothing_stays(home: Path, pair: Path) -> None:
    llm = pair / "facellm-nano-q8_0.gguf"
    data = llm.read_bytes()
    llm.unlink()
    llm.write_bytes(data[:-1000])
    done = facellm(pair, "--name", "mine")
    assert done.exit_code == 1
    assert "cut short" in done.stderr
    assert left(home) == []


def test_a_pair_that_the_runtime_sees_otherwise_is_refused_at_the_trial(home: Path, pair: Path) -> None:
    import struct

    from facellm.models.gguf_header import read_header

    mmproj = pair / "facellm-nano-mmproj-f16.gguf"
    stored = read_header(mmproj)["facellm.canary.embedding"]
    data = struct.pack(f"<{len(stored)}f", *stored)
    changed(mmproj, data, struct.pack(f"<{len(stored)}f", *reversed(stored)))
    with pytest.raises(RuntimeChanged):
        run_import(ImportOrder(str(pair), "mine"), AssetStore(), lambda *_: None)
    assert left(home) == []


def test_a_replaced_model_stays_when_the_new_one_fails(home: Path, pair: Path) -> None:
    assert facellm(pair, "--name", "mine").exit_code == 0
    changed(pair / "facellm-nano-q8_0.gguf", b"tokenizer.ggml.tokens", b"tokenizer.ggml.tokenx")
    done = facellm(pair, "--name", "mine", "--replace")
    assert done.exit_code == 1
    assert left(home) == ["mine"]
    with EngineClient(find_package("mine", AssetStore())) as engine:
        assert engine.load().model


def test_want_of_memory_is_a_note(home: Path, pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OutOfMemory("The model needs about 40.0 GB of memory; 3.0 GB are free.", "Close other programs.")

    monkeypatch.setattr(EngineClient, "load", full)
    done = run_import(ImportOrder(str(pair), "mine"), AssetStore(), lambda *_: None)
    assert done.notes == ("It was not tried. The model needs about 40.0 GB of memory; 3.0 GB are free.",)
    assert left(home) == ["mine"]


def test_what_does_not_go_together(home: Path, pair: Path, tmp_path: Path) -> None:
    adapted, revised = ImportOrder(str(pair), adapter=str(tmp_path)), ImportOrder(str(pair), revision="v1")
    for order, says in ((adapted, "An adapter"), (revised, "no revision v1")):
        with pytest.raises(ImportRefused, match=says) as caught:
            run_import(order, AssetStore(), lambda *_: None)
        assert caught.value.hint
    inside = home / "models" / "there"
    inside.parent.mkdir(parents=True)
    shutil.copytree(pair, inside)
    with pytest.raises(ImportRefused, match="already, as there"):
        run_import(ImportOrder(str(inside), "mine"), AssetStore(), lambda *_: None)
    assert left(home) == ["there"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_an_interrupt_during_the_trial_leaves_nothing(home: Path, pair: Path) -> None:
    words = [sys.executable, "-m", "facellm.cli.app", "models", "import", str(pair), "--name", "mine"]
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=os.environ | paths) as child:
        assert child.stderr is not None
        assert any("rying it" in line for line in child.stderr)
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
    assert left(home) == []


@pytest.mark.skipif(not find_spec("safetensors"), reason="the converters' libraries are not installed")
@pytest.mark.parametrize("quant", ["F16", "q4_k_m"])
def test_a_checkpoint_is_converted(home: Path, request: pytest.FixtureRequest, quant: str) -> None:
    made = request.getfixturevalue("made")
    before = {file: file.stat().st_mtime_ns for file in (made / "qwen3").iterdir()}
    done = facellm(made / "qwen3", "--quant", quant, "--name", "tiny", "--json")
    assert done.exit_code == 0, done.stderr
    row = json.loads(done.stdout)
    assert (row["name"], row["title"], row["notes"]) == ("tiny", "tiny", [])
    assert sorted(file.suffix for file in (home / "models" / "tiny").iterdir()) == [".gguf", ".gguf", ".md"]
    assert quant.lower() in row["llm"]
    assert {file: file.stat().st_mtime_ns for file in (made / "qwen3").iterdir()} == before


@pytest.mark.skipif(not find_spec("safetensors"), reason="the converters' libraries are not installed")
def test_what_the_converters_say_is_passed_on(home: Path, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    made = request.getfixturevalue("made")
    notes = run_import(ImportOrder(str(made / "llava"), "old"), AssetStore(), lambda *_: None).notes
    assert "llama.cpp" in notes[0]
    other = Path(shutil.copytree(made / "qwen3", tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"architectures": ["GemmaThing"]}))
    done = facellm(other)
    assert done.exit_code == 1
    assert "GemmaThing" in done.stderr
    kind = facellm(made / "qwen3", "--quant", "Q3_K_S")
    assert "Q4_K_M" in kind.stderr
    assert left(home) == ["old"]


def test_neither_pytorch_nor_transformers_is_needed(home: Path, pair: Path) -> None:
    block = "import sys; sys.modules.update(dict.fromkeys(['torch', 'transformers', 'safetensors', 'PySide6'])); "
    words = ["models", "import", str(pair), "--name", "mine"]
    program = block + f"sys.argv = ['facellm', *{words!r}]; from facellm.cli.app import main; main()"
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ | paths)
    assert done.returncode == 0, done.stderr
    assert left(home) == ["mine"]
