"""Hints name a command that the user can type."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from facellm.core.command import COMMAND_ENV, command
from facellm.engine.package_check import again

PRODUCT = Path(__file__).resolve().parents[2] / "desktop" / "facellm"
WORDS = re.compile(r"\bfacellm (?:ask|faces|models|doctor|train|evaluate)\b")


@pytest.mark.parametrize(
    ("started", "typed"), [(None, "facellm"), ("", "facellm"), ("python3 run.py", "python3 run.py")]
)
def test_a_command_is_named_as_the_program_was_started(
    monkeypatch: pytest.MonkeyPatch, started: str | None, typed: str
) -> None:
    monkeypatch.delenv(COMMAND_ENV, raising=False)
    if started is not None:
        monkeypatch.setenv(COMMAND_ENV, started)
    assert command("models", "build", "nano") == f"{typed} models build nano"
    assert command() == typed


def test_only_the_nano_is_built_again() -> None:
    assert again(Path("facellm-nano-q8_0.gguf")) == f"Run: {command('models', 'build', 'nano')}"
    assert again(Path("InternVL3-1B.gguf")) == "Fetch or convert it again."


def test_no_sentence_names_a_command_without_asking_how_it_is_typed() -> None:
    found = []
    for path in PRODUCT.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                found += [f"{path.name}:{node.lineno} {said}" for said in WORDS.findall(node.value)]
    assert not found
