"""An adapter as a GGUF of its own, which llama.cpp adds to the language part when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter

from facellm_converters.checkpoint.tensors import some
from facellm_converters.errors import Unsupported
from facellm_converters.layouts.checkpoint import Checkpoint
from facellm_converters.lora.adapter import Adapter, Lora, Matrix
from facellm_converters.lora.merge import Merged
from facellm_converters.lora.whole import Whole
from facellm_converters.write.plan import paired, text_name

_MERGE = "Leave --keep-adapter out: then it is merged."


def write_adapter_gguf(adapter: Adapter, checkpoint: Checkpoint, path: Path) -> None:
    """Raises ``Unsupported`` for an adapter of which llama.cpp could take a part only, ``BadCheckpoint`` as merging."""
    Merged(checkpoint.tensors, checkpoint.config, adapter)  # the same checks
    if adapter.touches_vision:
        raise Unsupported("The adapter changes the image part, to which llama.cpp adds nothing at run time.", _MERGE)
    replaced = [name for name, values in adapter.saved.items() if not _is_base(name, values, checkpoint)]
    if replaced:
        raise Unsupported(f"The adapter replaces whole weights: {some(replaced)}.", _MERGE)
    writer: Any = GGUFWriter(None, checkpoint.text.architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 1.0)
    writer.add_name(adapter.folder.resolve().name)
    for key, value in sorted(adapter.provenance.items()):
        writer.add_string(f"facellm.adapter.{key}", value)
    for name, lora in adapter.loras.items():
        a, b = _matrices(name, lora, checkpoint)
        writer.add_tensor(f"{text_name(name)}.lora_a", a)
        writer.add_tensor(f"{text_name(name)}.lora_b", b)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _is_base(name: str, values: Whole, checkpoint: Checkpoint) -> bool:
    """PEFT saves a table beside its own matrices, though the base holds the same."""
    return name in checkpoint and all(
        np.array_equal(piece, checkpoint.read(name, start, start + len(np.atleast_1d(piece))))
        for start, piece in values.pieces()
    )


def _matrices(name: str, lora: Lora, checkpoint: Checkpoint) -> tuple[Matrix, Matrix]:
    """llama.cpp scales by alpha / r with one alpha for all: ours is 1, and each ``b`` holds its own scale times r."""
    if name == "language_model.embed_tokens.weight":
        raise Unsupported("The adapter changes the embedding table.", _MERGE)
    b = lora.b * np.float32(lora.scale * len(lora.a))
    spec = checkpoint.text
    if spec.architecture == "llama" and name.endswith((".q_proj.weight", ".k_proj.weight")):
        b = paired(b, spec.heads if name.endswith(".q_proj.weight") else spec.kv_heads)
    return np.ascontiguousarray(lora.a, np.float32), np.ascontiguousarray(b, np.float32)
