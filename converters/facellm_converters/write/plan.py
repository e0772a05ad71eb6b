"""The tensors of a GGUF file, each with the weight that it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from facellm.models.nano.gguf_files import CLIP_NAMES
from facellm.models.nano.merged import raw_kernel
from facellm_converters.layouts.checkpoint import Checkpoint
from facellm_converters.write.kinds import F16, F32, encode, fitting

Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Piece:
    """One tensor: GGUF name, shape in numpy's order, kind, the weight's one name, and what is changed on the whole."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    source: str
    change: Callable[[Values], Values] | None = None


_TEXT = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_INTERN = {
    "layernorm_before": "ln1",
    "layernorm_after": "ln2",
    "attention.q_proj": "attn_q",
    "attention.k_proj": "attn_k",
    "attention.v_proj": "attn_v",
    "attention.q_norm": "attn_q_norm",
    "attention.k_norm": "attn_k_norm",
    "attention.projection_layer": "attn_out",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}
_TOP = {
    "language_model.embed_tokens.weight": "token_embd.weight",
    "language_model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_PROJECTOR = {
    "internvl": {"layer_norm": "mm.model.mlp.0", "linear_1": "mm.model.mlp.1", "linear_2": "mm.model.mlp.3"},
    "llava": {"linear_1": "mm.0", "linear_2": "mm.2"},
    "nano": {"norm": "mm.model.mlp.0", "fc1": "mm.model.mlp.1", "fc2": "mm.model.mlp.3"},
}


def text_name(name: str) -> str:
    """GGUF name of a weight of the language part. Raises ``KeyError`` for any other."""
    if name in _TOP:
        return _TOP[name]
    part, _, end = name.removeprefix("language_model.layers.").rpartition(".")
    layer, _, role = part.partition(".")
    return f"blk.{int(layer)}.{_TEXT[role]}.{end}"


def text_pieces(checkpoint: Checkpoint, kind: GGMLQuantizationType) -> Iterator[Piece]:
    """All tensors of the language part."""
    for name in checkpoint.weights:
        if name.startswith(("language_model.", "lm_head.")):
            yield _piece(checkpoint, name, text_name(name), kind, _text_change(checkpoint, name))


def _text_change(checkpoint: Checkpoint, name: str) -> Callable[[Values], Values] | None:
    """llama.cpp's Llama graph turns neighbouring pairs of a head, transformers its two halves."""
    spec = checkpoint.text
    if spec.architecture != "llama" or not name.endswith(("q_proj.weight", "k_proj.weight")):
        return None
    heads = spec.heads if name.endswith("q_proj.weight") else spec.kv_heads
    return lambda values: paired(values, heads)


def paired(values: Values, heads: int) -> Values:
    """Rows ``[heads · width, …]`` from halves to neighbouring pairs within each head."""
    parts = values.reshape(heads, 2, -1, *values.shape[1:])
    return np.ascontiguousarray(parts.swapaxes(1, 2)).reshape(values.shape)


def vision_pieces(checkpoint: Checkpoint, kind: GGMLQuantizationType) -> Iterator[Piece]:
    """All tensors of the image tower and its projector."""
    top = dict(_intern_top(checkpoint, kind) if checkpoint.vision.tower == "intern" else _clip_top(checkpoint, kind))
    for name in checkpoint.weights:
        if name in top:
            yield top[name]
        elif name.startswith(("vision_tower.", "multi_modal_projector.")):
            yield _piece(checkpoint, name, _vision_name(name, checkpoint.kind), kind)


def _vision_name(name: str, kind: str) -> str:
    """GGUF name of a weight of a layer or the projector."""
    part, _, end = name.rpartition(".")
    if part.startswith("multi_modal_projector."):
        return f"{_PROJECTOR[kind][part.removeprefix('multi_modal_projector.')]}.{end}"
    _, _, stem, layer, *role = part.split(".")
    if end.startswith("lambda_"):
        return f"v.blk.{layer}.ls{end[-1]}.weight"
    return f"v.blk.{layer}.{(_INTERN if stem == 'layer' else CLIP_NAMES)['.'.join(role)]}.{end}"


def _intern_top(checkpoint: Checkpoint, kind: GGMLQuantizationType) -> Iterator[tuple[str, Piece]]:
    """llama.cpp's graph puts the class token behind the patches, but the position table has it first: it is rolled."""
    start = "vision_tower.embeddings."
    cls, position, patches = f"{start}cls_token", f"{start}position_embeddings", f"{start}patch_embeddings.projection."
    yield cls, _piece(checkpoint, cls, "v.class_embd", F32)
    yield position, _piece(checkpoint, position, "v.position_embd.weight", F32, lambda v: np.roll(v, -1, -2))
    for end in ("weight", "bias"):
        yield patches + end, _piece(checkpoint, patches + end, f"v.patch_embd.{end}", _convolution(kind))


def _clip_top(checkpoint: Checkpoint, kind: GGMLQuantizationType) -> Iterator[tuple[str, Piece]]:
    start = "vision_tower.embeddings."
    position, cls, patches = (
        f"{start}{name}" for name in ("position_embedding.weight", "class_embedding", "patch_embedding.weight")
    )
    count, width = checkpoint.weights[position]
    if checkpoint.kind == "nano":
        raw = _RawPixels(checkpoint, patches, _convolution(kind))
        # This graph adds positions to the patches alone; so the class token brings its own along.
        first = checkpoint.read(position, 0, 1)
        yield cls, Piece("v.class_embd", (1, width), F32, cls, lambda values: values.reshape(1, -1) + first)
        table = Piece("v.position_embd.weight", (count - 1, width), F32, position, lambda v: v[1:] + raw.offset())
        yield position, table
        yield patches, Piece("v.patch_embd.weight", checkpoint.weights[patches], raw.kind, patches, raw.kernel)
    else:
        yield cls, _piece(checkpoint, cls, "v.class_embd", F32)
        yield position, _piece(checkpoint, position, "v.position_embd.weight", F32, lambda v: np.roll(v, -1, 0))
        yield patches, _piece(checkpoint, patches, "v.patch_embd.weight", _convolution(kind))
    for end in ("weight", "bias"):
        norm = f"vision_tower.pre_layrnorm.{end}"
        yield norm, _piece(checkpoint, norm, f"v.pre_ln.{end}", F32)


class _RawPixels:
    """The nano's patch kernel for pixels that are neither shifted nor scaled, see ``raw_kernel``."""

    def __init__(self, checkpoint: Checkpoint, name: str, kind: GGMLQuantizationType) -> None:
        self.kind = kind
        self._checkpoint, self._name = checkpoint, name

    def kernel(self, values: Values) -> Values:
        """For the kernel."""
        return self._both(values)[0]

    def offset(self) -> Values:
        """For the position table. Raises ``BadCheckpoint`` for a kernel that cannot be stored."""
        return self._both(self._checkpoint.read(self._name))[1]

    def _both(self, values: Values) -> tuple[Values, Values]:
        encode(values, self.kind, self._name)  # names what cannot be stored, before sums of it are made
        spec = self._checkpoint.vision
        return raw_kernel(values, spec.mean, spec.std, half=self.kind == F16)


def _convolution(kind: GGMLQuantizationType) -> GGMLQuantizationType:
    """llama.cpp's convolution takes float16 or float32."""
    return F16 if kind == F16 else F32


def _piece(
    checkpoint: Checkpoint,
    name: str,
    short: str,
    kind: GGMLQuantizationType,
    change: Callable[[Values], Values] | None = None,
) -> Piece:
    shape = checkpoint.weights[name]
    if len(shape) <= 1 or short.endswith("_norm.weight") or not short.endswith(".weight"):
        kind = F32
    return Piece(short, shape, fitting(kind, shape), name, change)
