"""Reads a safetensors file into numpy, its bytes the same on every machine."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellm.core.errors import ModelPartError
from facellm.models.nano.tensor_parts import tensor_parts

Tensors = dict[str, NDArray[Any]]

_TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I8": "i1"}


def read_tensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Tensors by name and the file's metadata. Raises ``ModelPartError`` when the file is damaged or missing."""
    header, body = tensor_parts(path)
    try:
        metadata = header.pop("__metadata__", {})
        tensors = {name: _tensor(name, entry, body) for name, entry in header.items()}
        if sum(tensor.nbytes for tensor in tensors.values()) != len(body):
            raise ValueError("its size is not the one its header tells")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelPartError(f"{path.name} is damaged: {error}", "Reinstall FaceLLM.") from error
    return tensors, metadata


def _tensor(name: str, entry: dict[str, Any], body: memoryview) -> NDArray[Any]:
    if entry["dtype"] not in _TYPES:
        raise ValueError(f"{name} has the unknown type {entry['dtype']}")
    kind, shape, (begin, end) = np.dtype(_TYPES[entry["dtype"]]), entry["shape"], entry["data_offsets"]
    if not 0 <= begin <= end <= len(body) or end - begin != math.prod(shape) * kind.itemsize:
        raise ValueError(f"{name} does not lie where the header says")
    return np.frombuffer(body[begin:end], kind).reshape(shape)
