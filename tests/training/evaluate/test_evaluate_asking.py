"""What happens to the other questions when one is refused, or the engine dies; every column has the same questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facellm.core.errors import FaceLLMError
from facellm.core.faces import RgbImage
from facellm.engine.errors import EngineDied, QuestionTooLong
from facellm_training.evaluate.asking import Asked, ask_models
from facellm_training.evaluate.backends import Backend
from facellm_training.evaluate.items import EvaluationError, Item
from facellm_training.evaluate.journal import Reply
from facellm_training.evaluate.run import Run, named

PIXELS = np.zeros((4, 4, 3), np.uint8)


class Scripted:
    """A model whose faults are chosen; what it was asked is kept. ``faults``: item id → errors to raise first."""

    together = True

    def __init__(self, name: str, faults: dict[str, list[FaceLLMError]] | None = None) -> None:
        self.name, self.faults = name, faults or {}
        self.asked: list[str] = []

    @property
    def settings(self) -> dict[str, Any]:
        return {"model": self.name}

    def answer(self, pictures: Sequence[RgbImage], items: Sequence[Item]) -> list[Reply]:
        for item in items:
            if self.faults.get(item.id):
                raise self.faults[item.id].pop(0)
        self.asked += [item.id for item in items]
        return [Reply((-0.1, -2.3), None, 0.0) for _ in items]

    def close(self) -> None:
        pass


def items(count: int = 4) -> list[Item]:
    """All about the same picture, so that they are asked together."""
    return [Item(str(i), (PIXELS,), f"{i}?", ("A", "B"), ("a", "b"), 0, "t") for i in range(count)]


def ask(out: Path, *models: Scripted) -> Asked:
    opened: dict[str, Callable[[], Backend]] = {model.name: lambda model=model: model for model in models}  # type: ignore[misc]
    return ask_models(items(), opened, out, lambda *_: None, {})


def test_a_question_that_one_model_cannot_take_leaves_every_column(tmp_path: Path) -> None:
    first = Scripted("first")
    second = Scripted("second", {"2": [QuestionTooLong("too long"), QuestionTooLong("too long")]})
    found = ask(tmp_path, first, second)
    assert [item.id for item in found.items] == ["0", "1", "3"]
    assert found.skipped == {"2": "second: too long"}
    assert first.asked == ["0", "1", "2", "3"] and second.asked == ["0", "1", "3"]


def test_an_engine_that_dies_is_asked_again_and_given_up_in_the_end(tmp_path: Path) -> None:
    lame = Scripted("lame", {"0": [EngineDied("died"), EngineDied("died")]})
    assert len(ask(tmp_path, lame).items) == 4
    dead = Scripted("dead", {"0": [EngineDied("died")] * 9})
    with pytest.raises(EvaluationError, match="died 3 times on 0"):
        ask(tmp_path, dead)


def test_a_second_run_asks_what_is_open_only(tmp_path: Path) -> None:
    broken = Scripted("m", {"0": [EvaluationError("the server is gone")]})
    with pytest.raises(EvaluationError, match="gone"):
        ask(tmp_path, broken)
    ask(tmp_path, broken)
    again = Scripted("m")
    assert len(ask(tmp_path, again).models[0].replies) == 4 and not again.asked


def test_nothing_to_ask_says_why(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="nothing to ask") as error:
        ask_models([], {}, tmp_path, lambda *_: None, {"a": "missing label: age"})
    assert "missing label: age" in error.value.hint


def test_columns_are_named(tmp_path: Path) -> None:
    assert named("nano") == ("nano", "nano")
    assert named("models/Q8_0-F16/") == ("Q8_0-F16", "models/Q8_0-F16/")
    assert named("base=models/x") == ("base", "models/x")
    assert named("http://localhost:1/v1#org/model") == ("org/model", "http://localhost:1/v1#org/model")
    with pytest.raises(EvaluationError, match="Two models are called x"):
        Run(["a/x", "b/x"], tmp_path, lambda *_: None).opened()
