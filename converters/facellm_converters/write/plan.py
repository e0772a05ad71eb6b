"""The tensors of a GGUF file, each with the weight that it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from facellm_converters.layouts.checkpoint import Checkpoint
from facellm_converters.write.kinds import F16, F32, fitting

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
_CLIP = {
    "layer_norm1": "ln1",
    "layer_norm2": "ln2",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
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
_ENDS = ("weight", "bias")


def text_name(name: str) -> str:
    """GGUF name of a weight of the language part. Raises ``KeyError`` for any other."""
    if name in _TOP:
        return _TOP[name]
    part, _, end = name.removeprefix("language_model.layers.").rpartition(".")
    layer, _, role = part.partition(".")
    return f"blk.{int(layer)}.{_TEXT[role]}.{end}"


def text_pieces(checkpoint: Checkpoint, kind: GGMLQuantizationType) -> Iterator[Piece]:
    """All tensors of the language part. ``lm_head`` is left out where it is the embedding table."""
    spec = checkpoint.text
    for name in _TOP:
        if name in checkpoint and not (name == "lm_head.weight" and spec.tied):
            yield _piece(checkpoint, name, text_name(name), kind)
    for layer in range(spec.layers):
        for role in _TEXT:
            for end in _ENDS:
                name = f"language_model.layers.{layer}.{role}.{end}"
                if name in checkpoint:
                    yield _piece(checkpoint, name, text_name(name), kind, _text_change(checkpoint, role))


def _text_change(checkpoint: Checkpoint, role: str) -> Callable[[Values], Values] | None:
    """llama.cpp's Llama graph turns neighbouring pairs of a head, transformers its two halves."""
    spec = checkpoint.text
    if spec.architecture != "llama" or role not in ("self_attn.q_proj", "self_attn.k_proj"):
        return None
    heads = spec.heads if role == "self_attn.q_proj" else spec.kv_heads
    return lambda values: paired(values, heads)


def paired(values: Values, heads: int) -> Values:
    """Rows ``[heads · width, …]`` from halves to neighbouring pairs within each head."""
    parts = values.reshape(heads, 2, -1, *values.shape[1:])
    return np.ascontiguousarray(parts.swapaxes(1, 2)).reshape(values.shape)


def vision_pieces(checkpoint: Checkpoint, kind: GGMLQuantizationType) -> Iterator[Piece]:
    """All tensors of the image tower and its projector."""
    intern = checkpoint.vision.tower == "intern"
    yield from _intern_top(checkpoint, kind) if intern else _clip_top(checkpoint, kind)
    roles, stem = (_INTERN, "layer") if intern else (_CLIP, "layers")
    for layer in range(checkpoint.vision.layers):
        start = f"vision_tower.encoder.{stem}.{layer}."
        for role, short in roles.items():
            for end in _ENDS:
                if f"{start}{role}.{end}" in checkpoint:
                    yield _piece(checkpoint, f"{start}{role}.{end}", f"v.blk.{layer}.{short}.{end}", kind)
        for number in (1, 2) if intern else ():
            yield _piece(checkpoint, f"{start}lambda_{number}", f"v.blk.{layer}.ls{number}.weight", F32)
    for role, short in _PROJECTOR[checkpoint.kind].items():
        for end in _ENDS:
            name = f"multi_modal_projector.{role}.{end}"
            if name in checkpoint:
                yield _piece(checkpoint, name, f"{short}.{end}", kind)


def _intern_top(checkpoint: Checkpoint, kind: GGMLQuantizationType) -> Iterator[Piece]:
    """llama.cpp's graph puts the class token behind the patches, but the position table has it first: it is rolled."""
    start = "vision_tower.embeddings."
    yield _piece(checkpoint, f"{start}cls_token", "v.class_embd", F32)
    yield _piece(checkpoint, f"{start}position_embeddings", "v.position_embd.weight", F32, lambda v: np.roll(v, -1, -2))
    for end in _ENDS:
        yield _patches(checkpoint, f"{start}patch_embeddings.projection.{end}", f"v.patch_embd.{end}", kind)


def _clip_top(checkpoint: Checkpoint, kind: GGMLQuantizationType) -> Iterator[Piece]:
    start = "vision_tower.embeddings."
    position, cls = f"{start}position_embedding.weight", f"{start}class_embedding"
    count, width = checkpoint.shape(position)
    if checkpoint.kind == "nano":
        # This graph adds positions to the patches alone; so the class token brings its own along.
        first = checkpoint.read(position, 0, 1)
        yield Piece("v.class_embd", (1, width), F32, cls, lambda values: values.reshape(1, -1) + first)
        yield Piece("v.position_embd.weight", (count - 1, width), F32, position, lambda values: values[1:])
    else:
        yield _piece(checkpoint, cls, "v.class_embd", F32)
        yield _piece(checkpoint, position, "v.position_embd.weight", F32, lambda values: np.roll(values, -1, 0))
    yield _patches(checkpoint, f"{start}patch_embedding.weight", "v.patch_embd.weight", kind)
    for end in _ENDS:
        yield _piece(checkpoint, f"vision_tower.pre_layrnorm.{end}", f"v.pre_ln.{end}", F32)


def _patches(checkpoint: Checkpoint, name: str, short: str, kind: GGMLQuantizationType) -> Piece:
    """llama.cpp's convolution takes float16 or float32."""
    return _piece(checkpoint, name, short, F16 if kind == F16 else F32)


def _piece(
    checkpoint: Checkpoint,
    name: str,
    short: str,
    kind: GGMLQuantizationType,
    change: Callable[[Values], Values] | None = None,
) -> Piece:
    shape = checkpoint.shape(name)
    if len(shape) <= 1 or short.endswith("_norm.weight") or not short.endswith(".weight"):
        kind = F32
    return Piece(short, shape, fitting(kind, shape), name, change)


def check_once(pieces: Mapping[str, Piece] | list[Piece]) -> None:
    """Every weight is used once, or it is a fault of ours."""
    names = [piece.name for piece in (pieces.values() if isinstance(pieces, Mapping) else pieces)]
    assert len(set(names)) == len(names), "a tensor is written twice"
