"""Memory, card and disk fail: the error says what to do, and nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from facellm_training.lora import state
from facellm_training.lora.faults import DeviceLost, DiskFull, OutOfMemory, disk_faults
from facellm_training.lora.loop import Diverged, run
from facellm_training.lora.recipe import read_recipe
from facellm_training.lora.run import train_lora
from facellm_training.lora.state import OtherRun
from facellm_training.recipe import RecipeError


def rows(made) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in state.rows(made.out)]


@pytest.fixture
def whole(session, tmp_path) -> list[tuple[int, float]]:
    """Losses of a run that nothing disturbs."""
    made = session(out=str(tmp_path / "whole"))
    run(made)
    return rows(made)


def failing(made, step, error) -> None:
    """From ``step`` on every pass with more than ``error``'s tokens fails, as a device does."""
    inner, calls = made.model.get_base_model().forward, []

    def forward(*arguments: Any, **options: Any):
        calls.append(options["input_ids"].numel())
        found = error(calls)
        if found is not None and len(state.rows(made.out)) >= step and torch.is_grad_enabled():
            raise found
        return inner(*arguments, **options)

    made.model.get_base_model().forward = forward


@pytest.mark.parametrize("packing", [True, False])
def test_out_of_memory_names_a_batch_that_fits_and_loses_nothing(session, whole, tmp_path, packing) -> None:
    speed = {"packing": packing, "micro_batch": 4}
    made = session(speed=speed)
    failing(made, 3, lambda calls: torch.OutOfMemoryError("CUDA out of memory.") if calls[-1] > 125 else None)
    with pytest.raises(OutOfMemory, match=r"Step 4 does not fit") as caught:
        run(made)
    assert re.search(r"a batch of 2 conversations, \d+ tokens fits \(tried\)", str(caught.value))
    setting = "speed.row_tokens: " if packing else "speed.micro_batch: 2"
    assert setting in caught.value.hint and "after step 3 is kept" in caught.value.hint
    fitting = {"row_tokens": 125} if packing else {"micro_batch": 2}
    again = session(speed=speed | fitting, data={"max_tokens": 256} if not packing else {"max_tokens": 125})
    run(again)
    found = rows(again)
    assert [step for step, _ in found] == [step for step, _ in whole]
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in whole], rel=1e-3)


def test_not_even_one_conversation_fits(session) -> None:
    made = session()
    failing(made, 0, lambda _: torch.OutOfMemoryError("CUDA out of memory."))
    with pytest.raises(OutOfMemory, match="Not even one conversation fits"):
        run(made)


def test_a_lost_card_says_what_is_kept(session, whole, tmp_path) -> None:
    made = session()
    failing(made, 3, lambda _: RuntimeError("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA"))
    with pytest.raises(DeviceLost, match="step 4: CUDA error: unspecified launch failure") as caught:
        run(made)
    assert "after step 2 is kept" in caught.value.hint
    again = session()
    run(again)
    assert rows(again) == whole


def test_a_full_disk_leaves_the_state_before(session, whole, tmp_path) -> None:
    made = session()
    real, saves, part = state.save, [], made.out / f"{state.STATE}.part"

    def save(*arguments: Any):
        saves.append(1)
        if len(saves) == 2:
            part.symlink_to("/dev/full")  # every write to it fails as on a full disk
        real(*arguments)

    state.save = save
    try:
        with pytest.raises(DiskFull, match="the state after step 4 could not be written"):
            run(made)
    finally:
        state.save = real
    assert not part.is_symlink()
    again = session()
    run(again)
    assert rows(again) == whole


def test_what_does_not_fit_is_said_before_it_is_written(tmp_path) -> None:
    with pytest.raises(DiskFull, match=r"needs 1000000000\.0 GB"), disk_faults(tmp_path, "the cache", need=10**18):
        pytest.fail("nothing may be written")


def test_an_out_folder_that_cannot_be_made_is_said(recipe_file, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match="cannot be made") as caught:
        train_lora(read_recipe(recipe_file(out=tmp_path / "file" / "out")))
    assert "another out" in caught.value.hint


def test_a_full_disk_under_the_report_keeps_the_adapter(recipe_file, tmp_path, monkeypatch) -> None:
    recipe = read_recipe(recipe_file())
    write = Path.write_text

    def full(path: Path, text: str, encoding: str | None = None) -> int:
        if path.name in ("run.json", "metrics.jsonl.part") and (recipe.out / "adapter").is_dir():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, text, encoding=encoding)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(DiskFull, match="the report could not be written"):
            train_lora(recipe)
    assert (recipe.out / "adapter" / "adapter_model.safetensors").is_file()
    train_lora(recipe)
    assert (recipe.out / "report.md").is_file()


def test_a_run_goes_on_from_a_moved_data_set_with_a_limit_that_drops_nothing(session, made, tmp_path) -> None:
    """The hint after too little memory may name a smaller ``max_tokens``."""
    first = session()
    run(first)
    shutil.copytree(made / "data", tmp_path / "moved")
    longest = max(first.corpus.train.lengths)
    again = session(data={"path": str(tmp_path / "moved"), "max_tokens": longest})
    assert run(again).step == first.order.steps


def test_other_errors_are_not_called_a_full_disk(tmp_path) -> None:
    with pytest.raises(FileNotFoundError), disk_faults(tmp_path, "x"):
        (tmp_path / "none" / "file").write_text("")


def test_a_run_of_other_settings_or_data_is_not_gone_on_with(session, made) -> None:
    run(session())
    with pytest.raises(OtherRun, match=r"optimiser\.batch \(was 4, is 3\)"):
        run(session(optimiser={"batch": 3}))
    other = session(data={"held_out": 2})
    with pytest.raises(OtherRun, match=r"data\.held_out"):
        run(other)


def test_a_loss_that_is_no_number_stops(session) -> None:
    made = session()
    with torch.no_grad():
        next(values for name, values in made.model.named_parameters() if "lora_B" in name).fill_(float("nan"))
    with pytest.raises(Diverged, match="nan"):
        run(made)
    assert json.dumps(rows(made)) == "[]"


def test_training_stops_early_when_nothing_improves(session) -> None:
    settings = {
        "language": {"lr": 0.0}, "optimiser": {"epochs": 5.0},
        "evaluation": {"every": 1, "patience": 3, "watch": "loss"},
    }  # fmt: skip
    progress = run(session(**settings))
    assert progress.stopped and progress.step == 3
    assert run(session(**settings)).step == 3


def test_out_of_memory_while_measuring_is_a_sentence_too(session) -> None:
    made = session()
    inner = made.model.get_base_model().forward

    def forward(*arguments: Any, **options: Any):
        if not torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return inner(*arguments, **options)

    made.model.get_base_model().forward = forward
    with pytest.raises(OutOfMemory, match="Measuring or"):
        run(made)
