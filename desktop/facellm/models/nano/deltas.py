"""Reads what training changed: projector, LoRA matrices, canary (``resources/nano/deltas.safetensors``).

Every tensor must be used: a fine-tune that is silently left out is the classic failure here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facellm.core.errors import ModelPartError

DELTAS = Path(__file__).resolve().parents[2] / "resources" / "nano" / "deltas.safetensors"

PROJECTOR = ("projector.norm.weight", "projector.fc1.weight", "projector.fc2.weight")
CANARY = "canary.embedding"


@dataclass(frozen=True, slots=True)
class Deltas:
    """``loras``: module name (``language.layers.0.self_attn.q_proj``, ``tower.layers.6.mlp.fc1``) → (A, B) in float64."""

    projector: dict[str, NDArray[np.float32]]
    loras: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    canary: NDArray[np.float32] | None
    tower_scale: float
    language_scale: float
    choice_temperature: float
    version: str
    trained: str
    sha256: str


def read_deltas(path: Path = DELTAS) -> Deltas:
    """Read and check the file. Raises ``ModelPartError`` when it is missing, damaged or holds unknown tensors."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelPartError(f"The trained deltas {path.name} are missing.", "Reinstall FaceLLM, or train them.")
    try:
        with safe_open(str(path), framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ModelPartError(f"{path.name} is damaged: {error}", "Reinstall FaceLLM.") from error
    try:
        projector = {name: tensors.pop(name).astype(np.float32) for name in PROJECTOR}
        canary = tensors.pop(CANARY, None)
        loras = _take_loras(tensors)
    except KeyError as error:
        raise ModelPartError(f"{path.name} lacks the tensor {error.args[0]}.", "Reinstall FaceLLM.") from error
    if tensors:
        raise ModelPartError(f"{path.name} holds tensors that nothing uses: {', '.join(sorted(tensors)[:5])}")
    return Deltas(
        projector, loras, None if canary is None else canary.astype(np.float32),
        float(metadata.get("tower_lora_scale", 1)), float(metadata.get("language_lora_scale", 1)),
        float(metadata.get("choice_temperature", 1)), metadata.get("version", "0"), metadata.get("trained", ""),
        hashlib.sha256(path.read_bytes()).hexdigest(),
    )  # fmt: skip


def _take_loras(
    tensors: dict[str, NDArray[np.generic]],
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    modules = [name.removesuffix(".lora_a") for name in tensors if name.endswith(".lora_a")]
    return {module: (_take(tensors, f"{module}.lora_a"), _take(tensors, f"{module}.lora_b")) for module in modules}


def _take(tensors: dict[str, NDArray[np.generic]], name: str) -> NDArray[np.float64]:
    """int8 rows times their scale, or floats as they are."""
    values = tensors.pop(name).astype(np.float64)
    scale = tensors.pop(f"{name}.scale", None)
    return values if scale is None else values * scale.astype(np.float64)[:, None]


def update(deltas: Deltas, module: str, scale: float) -> NDArray[np.float64] | None:
    """``scale · B·A`` of a module, ``[out, in]``, or ``None``.

    float64, then rounded once by the caller: so the merged bytes do not depend on the order in
    which a machine's BLAS adds.
    """
    pair = deltas.loras.get(module)
    return None if pair is None else scale * (pair[1] @ pair[0])
