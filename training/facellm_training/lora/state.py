"""What a run leaves on disk: a state that a killed run goes on from, adapters, and the rows of its metrics."""

from __future__ import annotations

import io
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from facellm.core.errors import FaceLLMError
from facellm_training.lora.faults import disk_faults

STATE, METRICS, ADAPTER, BEST = "state.pt", "metrics.jsonl", "adapter", "best"
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)


class OtherRun(FaceLLMError):
    """The folder holds a run of another recipe or other data."""


@dataclass(slots=True)
class Progress:
    """``step``: complete steps. ``evaluations``: rows as ``measure.evaluate`` gives them. ``best``: the index of the
    best one, ``worse``: evaluations since. ``stopped``: early."""

    step: int = 0
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    best: int = -1
    worse: int = 0
    stopped: bool = False


def save(out: Path, progress: Progress, identity: dict[str, Any], accelerator: Any, model: Any, optim: Any) -> None:
    """Every device calls this; the first one writes. A kill at any moment leaves the last whole state.

    Raises ``DiskFull``; the state before stays.
    """
    found = {
        "model": get_model_state_dict(model, options=_WHOLE),
        "optim": get_optimizer_state_dict(model, _bare(optim), options=_WHOLE),
        "progress": json.dumps(_fields(progress)),
        "identity": json.dumps(identity),
    }
    if accelerator.is_main_process:
        part = out / f"{STATE}.part"
        with disk_faults(out, f"the state after step {progress.step}"):
            try:
                _write(part, found)
                os.replace(part, out / STATE)
            finally:
                part.unlink(missing_ok=True)
    accelerator.wait_for_everyone()


def _fields(progress: Progress) -> dict[str, Any]:
    return {name: getattr(progress, name) for name in Progress.__slots__}


def load(out: Path, identity: dict[str, Any], model: Any, optim: Any) -> Progress:
    """The saved state put into model and optimiser; an empty ``Progress`` where there is none.

    Raises ``OtherRun`` where the state belongs to other settings or data.
    """
    if not (out / STATE).is_file():
        return Progress()
    state = torch.load(out / STATE, weights_only=True, map_location="cpu")
    before = json.loads(state["identity"])
    differing = sorted(key for key in before.keys() | identity.keys() if before.get(key) != identity.get(key))
    if differing:
        changes = ", ".join(f"{key} (was {before.get(key)}, is {identity.get(key)})" for key in differing[:3])
        raise OtherRun(
            f"{out} holds a run with other settings or data: {changes}.",
            "Give the recipe another out, or delete that folder to begin anew.",
        )
    options = StateDictOptions(full_state_dict=True, strict=False, ignore_frozen_params=True)
    set_model_state_dict(model, state["model"], options=options)
    set_optimizer_state_dict(model, _bare(optim), state["optim"], options=options)
    return Progress(**json.loads(state["progress"]))


def _bare(optim: Any) -> Any:
    """Without accelerate's wrapper."""
    return getattr(optim, "optimizer", optim)


def save_adapter(out: Path, name: str, accelerator: Any, model: Any) -> None:
    """PEFT's folder ``out/name``, written apart and put in its place whole. Every device calls this."""
    weights = get_model_state_dict(model, options=_WHOLE)
    if accelerator.is_main_process:
        part, place = out / f"{name}.part", out / name
        with disk_faults(out, f"the adapter {name}"):
            shutil.rmtree(part, ignore_errors=True)
            peft_model = accelerator.unwrap_model(model)
            peft_model.save_pretrained(part, state_dict=weights, save_embedding_layers=False)
            shutil.rmtree(place, ignore_errors=True)
            os.replace(part, place)
    accelerator.wait_for_everyone()


def append(out: Path, row: dict[str, Any]) -> None:
    """One step's numbers."""
    with disk_faults(out, "the step's numbers"), (out / METRICS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def rows(out: Path) -> list[dict[str, Any]]:
    """All steps' numbers; a line that a kill cut off is left out."""
    if not (out / METRICS).is_file():
        return []
    found = []
    for line in (out / METRICS).read_text("utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found


def forget_after(out: Path, step: int) -> None:
    """Drop the numbers of steps that come again, because the state is older."""
    kept = [row for row in rows(out) if row["step"] <= step]
    part = out / f"{METRICS}.part"
    with disk_faults(out, "the steps' numbers"):
        part.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        os.replace(part, out / METRICS)


def _write(path: Path, found: dict[str, Any]) -> None:
    """By way of memory: PyTorch's writer hides what the disk says."""
    whole = io.BytesIO()
    torch.save(found, whole)
    with path.open("wb") as file:
        file.write(whole.getbuffer())
        file.flush()
        os.fsync(file.fileno())
