"""A safetensors file in its two parts: eight bytes of length, a JSON header, then the tensors' bytes. No numpy here.

The format (huggingface/safetensors, ``README.md``) is small and frozen.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from facellm.core.errors import ModelPartError


def tensor_parts(path: Path) -> tuple[dict[str, Any], memoryview]:
    """Header and body. Raises ``ModelPartError`` when the file is damaged or missing."""
    try:
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        if len(data) < 8 + length or length < 2:
            raise ValueError("its header ends too early")
        header = json.loads(data[8 : 8 + length].decode("utf-8"))
        if not isinstance(header, dict):
            raise ValueError("its header is no table")
    except (OSError, ValueError) as error:
        raise ModelPartError(f"{path.name} is damaged: {error}", "Reinstall FaceLLM.") from error
    return header, memoryview(data)[8 + length :]


def content_sha256(path: Path) -> str:
    """The same for the same tensors and metadata: the library writes metadata in an order that changes from run to run.

    Raises ``ModelPartError`` as ``read_tensors``.
    """
    header, body = tensor_parts(path)
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    digest.update(body)
    return digest.hexdigest()
