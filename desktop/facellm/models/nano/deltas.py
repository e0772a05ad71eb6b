"""Reads what training changed: projector, LoRA matrices, canary (``resources/nano/deltas.safetensors``).

Everything in the file must be used, and nothing it needs may be guessed: a fine-tune that is silently
left out, or scaled by a default, is the classic failure here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellm.core.errors import ModelPartError
from facellm.models.nano import clip_onnx, smollm2
from facellm.models.nano.pair import DELTAS
from facellm.models.nano.tensor_file import Tensors, read_tensors
from facellm.models.nano.tensor_parts import content_sha256

#: Width of a token after the 2×2 pixel shuffle.
SHUFFLED = 4 * clip_onnx.WIDTH
PROJECTOR = {
    "projector.norm.weight": (SHUFFLED,),
    "projector.fc1.weight": (smollm2.WIDTH, SHUFFLED),
    "projector.fc2.weight": (smollm2.WIDTH, smollm2.WIDTH),
}
CANARY = "canary.embedding"
_MODULE = re.compile(
    r"language\.layers\.(?:[12]?\d)\.(?:self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)"
    r"|tower\.layers\.(?:\d|10)\.(?:self_attn\.(?:[qkv]|out)_proj|mlp\.fc[12])"
)


@dataclass(frozen=True, slots=True)
class Lora:
    """``change = scale · rows[:, None] · (b @ a)``; ``b @ a`` is ``[out, in]``.

    ``b`` holds the stored int8 numbers and ``rows`` their scales, kept apart on purpose: products of
    int8 with (int8 · float16) have at most 25 significant bits, so that float64 sums them without
    rounding and the result does not depend on the order in which a machine's BLAS adds.
    """

    a: NDArray[np.float64]
    b: NDArray[np.float64]
    rows: NDArray[np.float64]
    scale: float

    def change(self) -> NDArray[np.float64]:
        """What is added to the weight, ``[out, in]``."""
        product = self.rows[:, None] * (self.b @ self.a)
        return np.asarray(self.scale * product, np.float64)


@dataclass(frozen=True, slots=True)
class Deltas:
    """``loras`` by module name: ``language.layers.0.self_attn.q_proj``, ``tower.layers.6.mlp.fc1``.

    ``canary``: float32 ``[tokens, 576]``, or ``None`` (the engine then cannot check the runtime). ``sha256``: of the
    content, see ``content_sha256``.
    """

    projector: dict[str, NDArray[np.float32]]
    loras: dict[str, Lora]
    canary: NDArray[np.float32] | None
    choice_temperature: float
    version: str
    trained: str
    sha256: str


def read_deltas(path: Path = DELTAS) -> Deltas:
    """Read and check the file. Raises ``ModelPartError`` when it is missing, damaged or holds anything unknown."""
    if not path.is_file():
        raise ModelPartError(
            f"The trained deltas are not found: {path} is missing.", "Reinstall FaceLLM, or train them."
        )
    tensors, metadata = read_tensors(path)
    for name, tensor in tensors.items():
        if tensor.dtype != np.int8 and not np.isfinite(tensor).all():
            raise _fault(path, f"{name} holds numbers that are not finite")
    projector = {name: _take(tensors, name, shape, path) for name, shape in PROJECTOR.items()}
    canary = tensors.pop(CANARY, None)
    if canary is not None and (canary.ndim != 2 or canary.shape[1] != smollm2.WIDTH):
        raise _fault(path, f"{CANARY} has the shape {canary.shape}")
    loras = _take_loras(tensors, metadata, path)
    if tensors:
        raise _fault(path, f"nothing uses {', '.join(sorted(tensors)[:5])}")
    return Deltas(
        projector, loras, None if canary is None else canary.astype(np.float32),
        _number(metadata, "choice_temperature", path), _text(metadata, "version", path), metadata.get("trained", ""),
        content_sha256(path),
    )  # fmt: skip


def _take(tensors: Tensors, name: str, shape: tuple[int, ...], path: Path) -> NDArray[np.float32]:
    values = tensors.pop(name, None)
    if values is None or values.shape != shape or values.dtype == np.int8:
        raise _fault(path, f"{name} must be floats of the shape {shape}")
    return values.astype(np.float32)


def _take_loras(tensors: Tensors, metadata: Mapping[str, str], path: Path) -> dict[str, Lora]:
    loras = {}
    for module in sorted(name.removesuffix(".lora_a") for name in tensors if name.endswith(".lora_a")):
        if not _MODULE.fullmatch(module):
            continue  # stays in ``tensors``, and is named there as unused
        a, a_rows = _take_matrix(tensors, f"{module}.lora_a", path)
        b, b_rows = _take_matrix(tensors, f"{module}.lora_b", path)
        if a.shape[0] != b.shape[1]:
            raise _fault(path, f"{module}: A is {a.shape} and B is {b.shape}")
        scale = _number(metadata, f"{module.split('.', 1)[0]}_lora_scale", path)
        loras[module] = Lora(a * a_rows[:, None], b, b_rows, scale)
    return loras


def _take_matrix(tensors: Tensors, name: str, path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Numbers ``[rows, columns]`` and a scale for each row: as stored for int8, ones for floats."""
    values, scale = tensors.pop(name, None), tensors.pop(f"{name}.scale", None)
    if values is None or values.ndim != 2 or (values.dtype == np.int8) != (scale is not None):
        raise _fault(path, f"{name} must be a matrix of floats, or of int8 with a .scale")
    rows: NDArray[Any] = np.ones(len(values)) if scale is None else scale.reshape(-1)
    if rows.shape != (len(values),):
        raise _fault(path, f"{name}.scale must hold one number a row")
    return values.astype(np.float64), rows.astype(np.float64)


def _number(metadata: Mapping[str, str], key: str, path: Path) -> float:
    try:
        value = float(_text(metadata, key, path))
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise _fault(path, f"its metadata must give {key} as a positive number")
    return value


def _text(metadata: Mapping[str, str], key: str, path: Path) -> str:
    if not metadata.get(key):
        raise _fault(path, f"its metadata lacks {key}")
    return metadata[key]


def _fault(path: Path, what: str) -> ModelPartError:
    return ModelPartError(f"{path.name} cannot be used: {what}.", "Reinstall FaceLLM, or export the training again.")
