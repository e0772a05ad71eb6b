"""The house rules that a program can check; style and types are `python3 run.py lint`."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = ("desktop/facellm", "training/facellm_training", "converters/facellm_converters", "bootstrap")
SOURCES = [*sorted(path for folder in SOURCE_ROOTS for path in (ROOT / folder).rglob("*.py")), ROOT / "run.py"]
MAX_FILE, MAX_FUNCTION = 320, 40
VAGUE = {"utils.py", "util.py", "helpers.py", "manager.py", "common.py", "misc.py"}
#: What may be loaded before the window shows: none of these, each costs between 0.1 and 2 s.
HEAVY = {"cv2", "gguf", "llama_cpp", "mediapipe", "onnx", "scipy", "skimage", "sklearn", "torch", "transformers"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in SOURCES:
        yield name_of(path), ast.parse(path.read_text("utf-8"))


def importers(*modules: str) -> set[str]:
    """Files that import one of the modules, or something inside it, anywhere in their text."""
    found = set()
    for name, tree in trees():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            if any(each == module or each.startswith(f"{module}.") for each in names for module in modules):
                found.add(name)
    return found


def length_of_body(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of what is done; the signature and the docstring cost nothing."""
    body = function.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and len(body) > 1:
        body = body[1:]
    return (function.end_lineno or 0) - body[0].lineno + 1


def test_the_rules_are_applied_to_all_of_the_code() -> None:
    assert {name_of(path).split("/")[0] for path in SOURCES} == {
        "bootstrap",
        "converters",
        "desktop",
        "run.py",
        "training",
    }


def test_files_are_short() -> None:
    long = {name_of(path): lines for path in SOURCES if (lines := len(path.read_text("utf-8").splitlines())) > MAX_FILE}
    assert not long


def test_functions_are_short() -> None:
    long = {
        f"{name}:{node.lineno} {node.name}": lines
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (lines := length_of_body(node)) > MAX_FUNCTION
    }
    assert not long


def test_no_file_has_a_name_that_says_nothing() -> None:
    assert not [name_of(path) for path in SOURCES if path.name in VAGUE]


def test_every_file_and_every_room_says_what_it_is_for() -> None:
    assert not [name for name, tree in trees() if not ast.get_docstring(tree)]
    folders = {path.parent for path in SOURCES if path.parent != ROOT}
    assert not [name_of(folder) for folder in folders if not (folder / "__init__.py").exists()]


def test_the_product_says_that_it_is_typed() -> None:
    assert (ROOT / "desktop/facellm/py.typed").exists()


def test_packaging_does_not_shadow_the_library_of_that_name() -> None:
    assert not (ROOT / "packaging/__init__.py").exists()


def test_llama_cpp_has_one_room_and_two_programs_of_the_converters() -> None:
    users = importers("llama_cpp")
    assert users
    apart = {f"converters/facellm_converters/{name}.py" for name in ("write/llama_quantise", "equality/runtime")}
    assert not [name for name in users - apart if not name.startswith("desktop/facellm/engine/llama")]


def test_mediapipe_has_one_file() -> None:
    users = importers("mediapipe")
    assert len(users) == 1
    assert users.pop().startswith("desktop/facellm/vision/")


def test_torch_and_remote_models_are_no_part_of_the_product() -> None:
    outside = importers("torch", "transformers", "peft", "openai")
    assert not [name for name in outside if not name.startswith("training/")]


def test_only_the_engine_knows_its_child() -> None:
    inside = [path.stem for path in (ROOT / "desktop/facellm/engine").glob("llama*.py")]
    assert inside
    users = importers("facellm.engine.worker", *(f"facellm.engine.{stem}" for stem in inside))
    entry = "desktop/facellm/cli/app.py"  # a frozen application is its own child
    assert not [name for name in users if not name.startswith("desktop/facellm/engine/") and name != entry]


def test_set_up_uses_the_standard_library_only() -> None:
    allowed = sys.stdlib_module_names | {"bootstrap"}
    foreign = set()
    for name, tree in trees():
        if name == "run.py" or name.startswith("bootstrap/"):
            for node in ast.walk(tree):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                foreign |= {f"{name}: {each}" for each in names if each.split(".")[0] not in allowed}
    assert not foreign


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(str(ROOT / folder) for folder in ("desktop", "training", "converters"))
    env = os.environ | {"PYTHONPATH": path, "PYTHONUTF8": "1", "QT_QPA_PLATFORM": "offscreen"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, encoding="utf-8", env=env, cwd=ROOT, check=False
    )


@pytest.mark.parametrize(
    "module", ["facellm.ui.app", "facellm.cli.app", "facellm.engine.client", "facellm.models.ensure"]
)
def test_a_start_loads_nothing_heavy(module: str) -> None:
    done = run_python("-c", f"import sys, {module}; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & HEAVY


def test_the_command_line_works_without_qt() -> None:
    block = "import sys; sys.modules['PySide6'] = None; import facellm.cli.app, facellm.conversation.session"
    done = run_python("-c", block)
    assert done.returncode == 0, done.stderr


def test_the_import_contracts_are_kept() -> None:
    done = run_python("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr
