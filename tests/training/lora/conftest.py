"""A tiny checkpoint of each language model and a data set, made once; sessions on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from facellm_training.lora.session import Session

#: Without the training packages there is nothing to try here.
collect_ignore_glob = [] if all(map(find_spec, ("torch", "transformers", "peft", "accelerate"))) else ["test_*.py"]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``qwen2``, ``qwen3`` and ``data``."""
    from tests.training.lora import tiny

    root = tmp_path_factory.mktemp("lora")
    for language in ("qwen2", "qwen3"):
        tiny.base(root / language, language)
    tiny.conversations(root / "data")
    return root


@pytest.fixture
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def recipe_file(made: Path, tmp_path: Path) -> Callable[..., Path]:
    from tests.training.lora import tiny

    def write(name: str = "recipe.yaml", kind: str = "qwen2", **changes: Any) -> Path:
        out = changes.pop("out", tmp_path / "out")
        data = changes.pop("folder", made / "data")
        return tiny.written(tmp_path / name, tiny.recipe(made / kind, data, out, **changes))

    return write


@pytest.fixture
def session(recipe_file: Callable[..., Path], one_thread: None) -> Callable[..., Session]:
    """Ready for the first step."""
    from accelerate.state import AcceleratorState

    from facellm_training.lora.recipe import read_recipe
    from facellm_training.lora.run import prepare

    def make(kind: str = "qwen2", **changes: Any) -> Session:
        AcceleratorState._reset_state(reset_partial_state=True)  # a process has one precision; tests have several
        return prepare(read_recipe(recipe_file(kind=kind, **changes)), lambda _: None)

    return make
