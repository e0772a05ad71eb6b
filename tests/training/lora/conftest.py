"""A tiny checkpoint of each language model and a data set, made once; sessions on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the checkpoints are made with PyTorch")
pytest.importorskip("transformers")
pytest.importorskip("peft")
pytest.importorskip("accelerate")

from facellm_training.lora.recipe import read_recipe  # noqa: E402
from facellm_training.lora.run import prepare  # noqa: E402
from facellm_training.lora.session import Session  # noqa: E402
from tests.training.lora import tiny  # noqa: E402

Make = Callable[..., Session]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``qwen2``, ``qwen3`` and ``data``."""
    root = tmp_path_factory.mktemp("lora")
    for language in ("qwen2", "qwen3"):
        tiny.base(root / language, language)
    tiny.conversations(root / "data")
    return root


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def recipe_file(made: Path, tmp_path: Path) -> Callable[..., Path]:
    def write(name: str = "recipe.yaml", kind: str = "qwen2", **changes: Any) -> Path:
        out = changes.pop("out", tmp_path / "out")
        data = changes.pop("folder", made / "data")
        return tiny.written(tmp_path / name, tiny.recipe(made / kind, data, out, **changes))

    return write


@pytest.fixture
def session(recipe_file: Callable[..., Path], one_thread: None) -> Make:
    """Ready for the first step."""

    def make(kind: str = "qwen2", **changes: Any) -> Session:
        return prepare(read_recipe(recipe_file(kind=kind, **changes)), lambda _: None)

    return make
