"""What set-up does with pip, which is a script here: a failed or killed step costs nothing that worked before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bootstrap import console, engine, environment, packages, places
from bootstrap.environment import Torch

posix = pytest.mark.skipif(os.name != "posix", reason="the script that stands in for pip ends itself by a signal")

#: Stands in for pip: "installs" by writing down name and version. PIP_MODE says what goes wrong.
PIP = """
import os, pathlib, signal, sys
words, mode, site = sys.argv[1:], os.environ.get("PIP_MODE", ""), pathlib.Path(__file__).parents[1]
word = next(word for word in words if word in ("download", "install"))
asked = pathlib.Path(words[words.index("-r") + 1]).read_text().splitlines() if "-r" in words else []
if word == "download" and mode not in ("", "killed"):
    print({"offline": "WARNING: Retrying (Retry(total=0)) after connection broken: /simple/"}.get(mode, ""))
    print("ERROR: Could not find a version (from versions: %s)" % ("2.0" if mode == "absent" else "none"))
    sys.exit("ERROR: No matching distribution found for " + asked[0])
for line in asked:
    name, version = line.split()[0].replace("===", "==").split("==")
    if word == "download":
        pathlib.Path(words[words.index("--dest") + 1], f"{name}-{version}.whl").touch()
    else:
        info = site / f"{name}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Name: {name}\\nVersion: {version}\\n")
        if mode == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
"""
LOCKS = {"desktop": "a==1", "dev": "a==1\nb==1", "training": "a==1\nb==1\nc==1", "torch-cpu": "t==2", "torch": "t===2"}


def make_venv(_title: str, command: list[str], _log: Path) -> None:
    subprocess.run([*command[:-1], "--without-pip", command[-1]], check=True)
    ask = [str(places.venv_python(Path(command[-1]))), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    pip = Path(subprocess.run(ask, capture_output=True, encoding="utf-8", check=True).stdout.strip()) / "pip"
    pip.mkdir()
    (pip / "__main__.py").write_text(PIP)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A product that was set up, in an environment of the test's."""
    venv = tmp_path / ".venv"
    monkeypatch.setattr(environment, "VENV", venv)
    monkeypatch.setattr(environment, "UNFINISHED", venv / ".unfinished")
    for module in (environment, engine):
        monkeypatch.setattr(module, "FLAGS_FILE", venv / ".cmake-args")
    for module in (environment, packages):
        monkeypatch.setattr(module, "LOG", tmp_path / "log.txt")
        monkeypatch.setattr(module, "REQUIREMENTS", tmp_path)
        monkeypatch.setattr(module, "venv_python", lambda: places.venv_python(venv))
    monkeypatch.setattr(environment, "TURN", tmp_path / "lock")
    monkeypatch.setattr(environment, "run_step", make_venv)
    monkeypatch.setattr(environment, "engine_wheel", lambda: tmp_path / "llama.whl")
    monkeypatch.delenv(engine.FLAGS_ENV, raising=False)
    for name, text in LOCKS.items():
        (tmp_path / f"{name}.txt").write_text(text)
    environment.ensure_environment("desktop.txt")
    return tmp_path


@posix
class TestPip:
    def test_without_a_network_what_works_goes_on_working(
        self, installed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PIP_MODE", "offline")
        monkeypatch.setattr(environment, "engine_wheel", lambda: pytest.fail("it is installed already"))
        with pytest.raises(console.SetupError, match="No matching distribution"):
            environment.install_training()
        assert environment.is_ready("desktop.txt")
        monkeypatch.setattr(environment, "engine_wheel", lambda: installed / "llama.whl")
        (installed / "desktop.txt").write_text("a==2")
        with pytest.raises(console.SetupError):
            environment.ensure_environment("desktop.txt")
        (installed / "desktop.txt").write_text("a==1")
        assert environment.is_ready("desktop.txt")

    def test_pytorch_that_cannot_be_fetched_is_tried_again(
        self, installed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        environment.ensure_environment("training.txt")
        for mode in ("offline", "no answer"):
            monkeypatch.setenv("PIP_MODE", mode)
            assert environment.ensure_training() is Torch.NOT_FETCHED
            assert "Fetching PyTorch (CPU) failed" in capsys.readouterr().err
        with pytest.raises(console.SetupError, match="could not be fetched"):
            environment.install_training()
        assert environment.is_ready("training.txt")
        monkeypatch.setenv("PIP_MODE", "")
        assert environment.ensure_training() is Torch.READY
        assert environment.is_ready("torch-cpu.txt" if sys.platform == "linux" else "torch.txt")

    def test_pytorch_that_the_index_has_not_is_not_looked_for_again(
        self, installed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        environment.ensure_environment("training.txt")
        monkeypatch.setenv("PIP_MODE", "absent")
        assert environment.ensure_training() is Torch.ABSENT
        monkeypatch.setenv("PIP_MODE", "")
        assert environment.ensure_training() is Torch.ABSENT

    def test_half_a_package_is_made_good_and_costs_the_product_nothing(
        self, installed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PIP_MODE", "killed")
        with pytest.raises(console.SetupError):
            environment.ensure_environment("training.txt")
        monkeypatch.setenv("PIP_MODE", "offline")
        environment.ensure_environment("desktop.txt")
        half = next((installed / ".venv").rglob("b-1.dist-info")) / "half"
        half.touch()
        with pytest.raises(console.SetupError):
            environment.ensure_environment("training.txt")
        assert half.exists() and environment.is_ready("desktop.txt")
        monkeypatch.setenv("PIP_MODE", "")
        environment.ensure_environment("training.txt")
        assert not half.exists() and environment.is_ready("training.txt") and environment.is_ready("desktop.txt")

    def test_another_build_of_the_engine_is_announced_and_kept(
        self, installed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv(engine.FLAGS_ENV, "-DGGML_CUDA=ON")
        environment.ensure_environment("desktop.txt")
        assert "-DGGML_CUDA=ON; before: none" in capsys.readouterr().err
        monkeypatch.delenv(engine.FLAGS_ENV)
        assert environment.is_ready("desktop.txt")
        environment.UNFINISHED.touch()
        environment.ensure_environment("desktop.txt")
        assert engine.remembered_flags() == "-DGGML_CUDA=ON" and environment.is_ready("desktop.txt")
