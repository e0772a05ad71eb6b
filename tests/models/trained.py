"""Trained deltas made of noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def noise(*shape: int, scale: float = 0.3, seed: int = 0) -> np.ndarray:
    return (scale * np.random.default_rng(seed + sum(shape)).standard_normal(shape)).astype(np.float16)


def some_tensors() -> dict[str, np.ndarray]:
    """Projector, canary, and LoRA on one language layer (all storage forms) and one image block."""
    return {
        "projector.norm.weight": np.ones(3072, np.float16),
        "projector.fc1.weight": noise(576, 3072, scale=0.02),
        "projector.fc2.weight": noise(576, 576, scale=0.04),
        "canary.embedding": np.ones((8, 576), np.float32),
        "language.layers.3.self_attn.q_proj.lora_a": noise(4, 576),
        "language.layers.3.self_attn.q_proj.lora_b": noise(576, 4),
        "language.layers.3.self_attn.k_proj.lora_a": noise(4, 576),
        "language.layers.3.self_attn.k_proj.lora_b": noise(192, 4),
        "language.layers.3.mlp.down_proj.lora_a": np.full((4, 1536), 3, np.int8),
        "language.layers.3.mlp.down_proj.lora_a.scale": np.full(4, 0.01, np.float16),
        "language.layers.3.mlp.down_proj.lora_b": np.arange(576 * 4, dtype=np.int8).reshape(576, 4),
        "language.layers.3.mlp.down_proj.lora_b.scale": np.linspace(0.001, 0.01, 576).astype(np.float16),
        "tower.layers.7.mlp.fc1.lora_a": noise(4, 768),
        "tower.layers.7.mlp.fc1.lora_b": noise(3072, 4),
    }


METADATA = {
    "language_lora_scale": "2.0",
    "tower_lora_scale": "1.5",
    "version": "t1",
    "trained": "on noise",
    "choice_temperature": "1.25",
}


def write_deltas(
    path: Path, tensors: dict[str, np.ndarray] | None = None, metadata: dict[str, str] | None = None
) -> Path:
    """With the format's own library, which the product does not use."""
    from safetensors.numpy import save_file

    save_file(some_tensors() if tensors is None else tensors, path, metadata=METADATA if metadata is None else metadata)
    return path
