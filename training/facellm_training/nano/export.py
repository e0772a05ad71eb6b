"""Writes what training changed as one small file: the deltas that ``facellm models build nano`` applies.

LoRA matrices are stored as int8 with one float16 scale a row (half the size; the product B·A is
then within 1 % of the trained one, far below Q8_0's own rounding of the merged weights). The
projector stays float16.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor

from facellm.core import canary
from facellm.models.nano import clip_onnx
from facellm_training.nano.image_stage import ImageModel
from facellm_training.nano.language_stage import NanoModel
from facellm_training.nano.tower import LoraLinear, Tower, normalise, pixel_shuffle, tower_loras

#: Image tokens of the canary picture that are stored and compared at load.
CANARY_TOKENS = 8


def quantise_rows(matrix: Tensor) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """int8 ``[rows, columns]`` and float16 scales ``[rows]``; ``matrix ≈ q · scale``."""
    values = matrix.detach().float().cpu().numpy()
    scale = (np.abs(values).max(axis=1) / 127).astype(np.float16)
    safe = np.where(scale > 0, scale, 1).astype(np.float32)
    return np.clip(np.rint(values / safe[:, None]), -127, 127).astype(np.int8), scale


def restored(matrix: Tensor) -> Tensor:
    """``matrix`` after a round trip through the stored form."""
    quantised, scale = quantise_rows(matrix)
    return torch.from_numpy(quantised.astype(np.float32) * scale.astype(np.float32)[:, None])


def matrices(loras: dict[str, LoraLinear]) -> dict[str, Tensor]:
    """``MODULE.lora_a`` ``[rank, in]`` and ``MODULE.lora_b`` ``[out, rank]`` of each module."""
    return {f"{name}.lora_a": lora.a for name, lora in loras.items()} | {
        f"{name}.lora_b": lora.b for name, lora in loras.items()
    }


def merged_tower(weights: clip_onnx.Weights, loras: dict[str, Tensor], scale: float) -> clip_onnx.Weights:
    """The tower's weights with the stored LoRA merged, as the GGUF will hold them before rounding to f16."""
    merged = dict(weights)
    for key, matrix in loras.items():
        if key.endswith(".lora_a"):
            layer = key.removeprefix("tower.").removesuffix(".lora_a")
            update = restored(loras[f"tower.{layer}.lora_b"]).double() @ restored(matrix).double()
            name = f"encoder.{layer}.weight"
            merged[name] = (weights[name].astype(np.float64) + scale * update.numpy()).astype(np.float32)
    return merged


@torch.no_grad()
def canary_embedding(weights: clip_onnx.Weights, image: ImageModel, scale: float) -> NDArray[np.float32]:
    """First image tokens of the canary picture in float32, ``[8, 576]``."""
    tower = Tower(merged_tower(weights, matrices(tower_loras(image.tower)), scale))
    pixels = normalise(canary.waves(clip_onnx.IMAGE_SIZE)[None])
    tokens = image.projector(pixel_shuffle(tower(tower.embed(pixels))).to(image.device))
    return np.ascontiguousarray(tokens[0, :CANARY_TOKENS].cpu().numpy())


def write_deltas(
    path: Path, weights: clip_onnx.Weights, model: NanoModel, *, version: str, trained: str,
    tower_scale: float, language_scale: float, choice_temperature: float,
) -> None:  # fmt: skip
    """Write ``path``; the format is read by ``facellm.models.nano.deltas``."""
    projector = model.image.projector
    tensors: dict[str, NDArray[np.generic]] = {
        "projector.norm.weight": projector.norm.detach().half().cpu().numpy(),
        "projector.fc1.weight": projector.fc1.detach().half().cpu().numpy(),
        "projector.fc2.weight": projector.fc2.detach().half().cpu().numpy(),
        "canary.embedding": canary_embedding(weights, model.image, tower_scale),
    }
    for key, value in matrices(tower_loras(model.image.tower) | model.language.loras()).items():
        tensors[key], tensors[f"{key}.scale"] = quantise_rows(value)
    metadata = {
        "version": version,
        "trained": trained,
        "tower_lora_scale": repr(tower_scale),
        "language_lora_scale": repr(language_scale),
        "choice_temperature": repr(choice_temperature),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata=metadata)
