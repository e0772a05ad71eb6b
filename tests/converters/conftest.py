"""Small checkpoints, made once a run; a test that changes one takes a copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

#: The converters' libraries come with those of training; without them there is nothing to try here.
collect_ignore_glob = [] if find_spec("safetensors") else ["test_*.py"]


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """Folders ``qwen2``, ``qwen3``, ``chat`` (OpenGVLab's layout of ``qwen2``) and ``llava``."""
    pytest.importorskip("torch", reason="the checkpoints are made with PyTorch")
    pytest.importorskip("transformers")
    from tests.converters import checkpoints

    root = tmp_path_factory.mktemp("checkpoints")
    checkpoints.internvl(root / "qwen2")
    checkpoints.internvl(root / "qwen3", "qwen3")
    checkpoints.chat_model(root / "chat", root / "qwen2")
    checkpoints.llava(root / "llava")
    return root


@pytest.fixture
def copied(made, tmp_path) -> Callable[[str], Path]:
    """A copy of one of them, to be damaged."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(made / name, tmp_path / "checkpoint"))

    return copy
