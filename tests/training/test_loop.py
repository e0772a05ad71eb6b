"""The training loop: a killed run goes on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (python3 run.py setup training)")

from facellm_training.nano.loop import Loop, run, schedule  # noqa: E402
from facellm_training.nano.projector import EMBEDDING_NORM  # noqa: E402


class Killed(Exception):
    """Stands for a kill between two steps."""


def small() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(3)
    model = torch.nn.Linear(4, 2)
    return model, torch.optim.AdamW(model.parameters(), lr=0.05)


def train(out: Path, *, killed_at: int | None = None) -> torch.nn.Module:
    out.mkdir(exist_ok=True)
    model, optim = small()

    def loss_of(step: int) -> torch.Tensor:
        if step == killed_at:
            raise Killed
        return model(torch.randn(8, 4)).square().mean()

    run(Loop("stage", out, steps=40, batch=8, warmup=5, save_every=10), model, optim, loss_of)
    return model


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    with pytest.raises(Killed):
        train(tmp_path / "cut", killed_at=27)
    resumed = train(tmp_path / "cut")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert not list((tmp_path / "cut").glob("*.part"))


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    first = train(tmp_path)
    again = train(tmp_path, killed_at=0)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_the_rate_rises_then_falls() -> None:
    rates = [schedule(step, 100, 10) for step in range(100)]
    assert rates[0] == 0.1 and max(rates) == 1.0 and rates[-1] < 0.03
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_length_penalty_is_zero_at_a_words_length_and_grows_both_ways() -> None:
    from facellm_training.nano.image_stage import length_penalty

    unit = torch.nn.functional.normalize(torch.randn(2, 49, 576), dim=-1)
    assert length_penalty(EMBEDDING_NORM * unit).item() == pytest.approx(0, abs=1e-8)
    assert length_penalty(250 * EMBEDDING_NORM * unit) > length_penalty(2 * EMBEDDING_NORM * unit) > 0
    assert length_penalty(0.5 * EMBEDDING_NORM * unit) > 0
