"""Small adapters of many kinds, as PEFT saves them. Imports torch and PEFT: ask first whether they are there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from safetensors.numpy import load_file, save_file

from facellm_converters.layouts.names import plain
from facellm_converters.lora.adapter import WEIGHTS
from tests.converters import checkpoints

LANGUAGE = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
MAKERS: dict[str, Callable[[Path], Any]] = {
    "qwen2": lambda folder: checkpoints.internvl(folder),
    "qwen3": lambda folder: checkpoints.internvl(folder, "qwen3"),
    "llava": checkpoints.llava,
}
KINDS: dict[str, dict[str, Any]] = {
    "language": {"target_modules": LANGUAGE},
    "vision": {"target_modules": ["q_proj", "fc1", "fc2", "linear_1", "linear_2", "down_proj"]},
    "rslora": {"target_modules": LANGUAGE, "use_rslora": True},
    "patterns": {"target_modules": LANGUAGE, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"up_proj": 40}},
    "whole names": {
        "target_modules": LANGUAGE,
        "alpha_pattern": {r"^model.language_model.layers.0.mlp.up_proj": 40, r"model\.language_model\..*\.v_proj": 3},
    },
    "table": {"target_modules": ["embed_tokens", "v_proj"]},
    "saved": {"target_modules": ["v_proj"], "modules_to_save": ["linear_2"]},
    "saved table": {"target_modules": ["v_proj"], "modules_to_save": ["embed_tokens"]},
}


def tuned(model: Any, out: Path, **options: Any) -> Any:
    """An adapter of random numbers saved in ``out``; returns PEFT's model."""
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=10, **options))
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, values in wrapped.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                values.normal_(0, 0.2, generator=random)
    wrapped.save_pretrained(out)
    return wrapped


def altered(folder: Path, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> None:
    """The adapter's tensors, changed where they lie."""
    weights = load_file(folder / WEIGHTS)
    save_file(change(weights), folder / WEIGHTS)


def plainly(base: Path) -> dict[str, np.ndarray]:
    """The base's weights by their plain names."""
    return {plain(name): values for name, values in load_file(base / "model.safetensors").items()}
