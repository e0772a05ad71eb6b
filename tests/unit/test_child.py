"""Started again as a child: from the sources, and as a frozen application is, in real processes."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from facellm.core.child import CHILD_FLAG, CHILDREN, child_command

ROOT = Path(__file__).resolve().parents[2]
#: What a frozen application's start does: its own main, with ``sys.frozen`` set.
FROZEN = "import sys; sys.frozen = True; from facellm.cli.app import main; main()"


def run(command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(command, input=text, capture_output=True, text=True, env=os.environ | paths, timeout=60)


def frozen(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-c", FROZEN, *arguments], text)


def test_all_children_are_there_and_have_a_main() -> None:
    for module in CHILDREN:
        spec = find_spec(module)
        assert spec is not None
        assert spec.origin
        tree = ast.parse(Path(spec.origin).read_text("utf-8"))
        assert "main" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_nobody_starts_another_module_and_nobody_starts_python_by_hand() -> None:
    asked, by_hand = set(), []
    for folder in ("desktop/facellm", "converters/facellm_converters"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text("utf-8")
            if "sys.executable" in text and path.name not in ("child.py", "sources.py"):  # the last one starts pip
                by_hand.append(path.name)
            asked |= {module for module in CHILDREN if f'"{module}"' in text and path.name != "child.py"}
    assert by_hand == []
    assert asked == set(CHILDREN)


def test_from_the_sources_the_same_files_run_with_their_arguments() -> None:
    command = child_command("facellm.engine.llama_devices", "one", "two words")
    program = command[command.index("-c") + 1]
    seen = program.replace(
        "sys.modules[name].main()", "print(__import__('json').dumps([sys.argv, sys.modules[name].__file__]))"
    )
    done = subprocess.run([seen if part == program else part for part in command], capture_output=True, text=True)
    arguments, file = json.loads(done.stdout)
    assert arguments == ["facellm.engine.llama_devices", "one", "two words"]
    assert Path(file).is_relative_to(ROOT)


def test_a_frozen_application_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/opt/facellm/facellm")
    assert child_command("facellm.ui.build", "x") == ["/opt/facellm/facellm", CHILD_FLAG, "facellm.ui.build", "x"]


def test_a_frozen_application_is_its_own_children() -> None:
    devices = frozen(CHILD_FLAG, "facellm.engine.llama_devices")
    assert devices.returncode == 0, devices.stderr
    assert json.loads(devices.stdout)["version"]
    engine = frozen(CHILD_FLAG, "facellm.engine.worker")
    assert (engine.returncode, engine.stdout) == (0, "")


def test_a_frozen_application_imports() -> None:
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", FROZEN, CHILD_FLAG, "facellm.cli.importing"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | paths
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps({"source": "/no/such/thing"}) + "\n")
        child.stdin.flush()
        told = [json.loads(line) for line in child.stdout]
    assert told[0]["step"] == "looking"
    assert "no file or folder" in told[-1]["error"]
    assert child.returncode == 0


def test_a_frozen_application_quantises(tmp_path: Path) -> None:
    pytest.importorskip("facellm_converters.write.kquants")
    missing, out = str(tmp_path / "missing.gguf"), str(tmp_path / "out.gguf")
    done = frozen(CHILD_FLAG, "facellm_converters.write.llama_quantise", missing, out, "15", "1")
    assert done.returncode == 1
    assert "missing.gguf" in done.stderr
    assert not Path(out).exists()


@pytest.mark.parametrize("module", ["os", "facellm.cli.app", ""])
def test_a_frozen_application_starts_nothing_else(module: str) -> None:
    done = frozen(CHILD_FLAG, *([module] if module else []))
    assert done.returncode == 1
    assert "not started as a process of its own" in done.stderr


def test_from_the_sources_the_flag_means_nothing() -> None:
    done = run([sys.executable, "-m", "facellm.cli.app", CHILD_FLAG, "facellm.engine.llama_devices"])
    assert done.returncode == 2
