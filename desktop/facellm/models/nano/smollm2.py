"""Reads SmolLM2-135M-Instruct out of its Q4_1 GGUF: weights as float32, metadata as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellm.core.errors import ModelPartError

LAYERS = 30
HEADS = 9
KV_HEADS = 3
WIDTH = 576

#: llama.cpp's tensor names for Hugging Face's module names.
GGUF_NAME = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


class LanguagePart:
    """The opened GGUF. Raises ``ModelPartError`` when it is something else."""

    def __init__(self, path: Path) -> None:
        from gguf import GGUFReader

        try:
            self._reader = GGUFReader(path)
        except (OSError, ValueError, IndexError) as error:
            raise ModelPartError(f"{path.name} is not a readable GGUF: {error}") from error
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        embedding, last = self._tensors.get("token_embd.weight"), f"blk.{LAYERS - 1}.attn_q.weight"
        if embedding is None or int(embedding.shape[0]) != WIDTH or last not in self._tensors:
            raise ModelPartError(f"{path.name} is a GGUF, but not SmolLM2-135M.")

    def names(self) -> list[str]:
        """Tensor names in file order."""
        return list(self._tensors)

    def weight(self, name: str) -> NDArray[np.float32]:
        """One tensor, dequantised, ``[out, in]`` or ``[n]``."""
        from gguf import quants

        tensor = self._tensors[name]
        shape = tuple(int(side) for side in reversed(tensor.shape))
        values = quants.dequantize(tensor.data, tensor.tensor_type)
        return np.ascontiguousarray(values.reshape(shape), np.float32)

    def fields(self) -> list[tuple[str, Any, Any, Any]]:
        """Metadata as (key, value, type, element type or ``None``), without the reader's own fields."""
        from gguf import GGUFValueType

        found = []
        for key, item in self._reader.fields.items():
            if not key.startswith("GGUF."):
                kind = item.types[0]
                found.append((key, item.contents(), kind, item.types[-1] if kind == GGUFValueType.ARRAY else None))
        return found


def permute_rows(matrix: NDArray[np.float64], heads: int) -> NDArray[np.float64]:
    """Rows of a query or key matrix from Hugging Face's order to llama.cpp's (rotary pairs side by side)."""
    rows = matrix.shape[0]
    return np.ascontiguousarray(
        matrix.reshape(heads, 2, rows // heads // 2, *matrix.shape[1:]).swapaxes(1, 2).reshape(matrix.shape)
    )


def halved_rows(matrix: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """The way back from ``permute_rows``: from llama.cpp's order to Hugging Face's (the two halves of a head)."""
    rows = matrix.shape[0]
    return np.ascontiguousarray(
        matrix.reshape(heads, rows // heads // 2, 2, *matrix.shape[1:]).swapaxes(1, 2).reshape(matrix.shape)
    )
