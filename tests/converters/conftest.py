"""Small checkpoints, made once a run; a test that changes one takes a copy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import pytest

#: The converters' libraries come with those of training; without them there is nothing to try here.
collect_ignore_glob = [] if find_spec("safetensors") else ["test_*.py"]

#: Tokens of the tokenizer of Qwen's kind, and rows of the table it is read for: more rows than tokens, as InternVL has.
QWEN_SIZE, QWEN_ROWS = 1000, 1040

Change = Callable[[dict[str, Any]], Any]


class TokenizerCopy(Protocol):
    """A copy of the tokenizer "qwen" or "llava" with one of its files changed; a second call changes more."""

    def __call__(self, name: str, file: str = "tokenizer.json", change: Change | None = None) -> Path: ...


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``qwen2``, ``qwen3``, ``chat`` (OpenGVLab's layout of ``qwen2``), ``llava`` and ``nano``."""
    pytest.importorskip("torch", reason="the checkpoints are made with PyTorch")
    pytest.importorskip("transformers")
    from tests.converters import checkpoints

    root = tmp_path_factory.mktemp("checkpoints")
    checkpoints.internvl(root / "qwen2")
    checkpoints.internvl(root / "qwen3", "qwen3")
    checkpoints.chat_model(root / "chat", root / "qwen2")
    checkpoints.llava(root / "llava")
    checkpoints.nano(root / "nano", root / "llava")
    return root


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of them, to be damaged."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(made / name, tmp_path / "checkpoint"))

    return copy


@pytest.fixture
def adapter(tmp_path: Path) -> tuple[Path, Path]:
    """A ``qwen2`` checkpoint of the test's own, and an adapter of its language part."""
    pytest.importorskip("torch", reason="the checkpoints are made with PyTorch")
    pytest.importorskip("peft")
    from tests.converters import adapters, checkpoints

    model = checkpoints.internvl(tmp_path / "base")
    adapters.tuned(model, tmp_path / "adapter", **adapters.KINDS["language"])
    return tmp_path / "base", tmp_path / "adapter"


@pytest.fixture(scope="session")
def qwen_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer of Qwen's kind."""
    from tests.converters.tokenizers import qwen_tokenizer

    folder = tmp_path_factory.mktemp("qwen")
    qwen_tokenizer(folder, QWEN_SIZE)
    return folder


@pytest.fixture(scope="session")
def llava_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer of LLaVA's kind: 800 tokens."""
    from tests.converters.tokenizers import llama_tokenizer

    folder = tmp_path_factory.mktemp("llava")
    llama_tokenizer(folder, 800)
    return folder


@pytest.fixture
def tokenizer_copy(qwen_words: Path, llava_words: Path, tmp_path: Path) -> TokenizerCopy:
    kinds = {"qwen": qwen_words, "llava": llava_words}

    def copy(name: str, file: str = "tokenizer.json", change: Change | None = None) -> Path:
        folder = tmp_path / name
        if not folder.is_dir():
            folder.mkdir()
            for path in kinds[name].iterdir():
                (folder / path.name).write_bytes(path.read_bytes())
        if change is not None:
            path = folder / file
            value = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            change(value)
            path.write_text(json.dumps(value), encoding="utf-8")
        return folder

    return copy
