"""A checkpoint's language part (Qwen2, Qwen3, Llama), computed in numpy, one layer's weights in memory at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facellm_converters.equality.numbers import Values, linear, rms_norm, softmax
from facellm_converters.layouts.checkpoint import Checkpoint

#: Rows of the head that are in memory at once.
_HEAD_ROWS = 1 << 14
_TABLE = "language_model.embed_tokens.weight"


def embedded(checkpoint: Checkpoint, ids: Sequence[int]) -> Values:
    """Embeddings ``[n, width]`` of tokens."""
    return np.concatenate([checkpoint.read(_TABLE, one, one + 1) for one in ids])


def next_token_logits(checkpoint: Checkpoint, inputs: Values, last: int) -> Values:
    """Logits ``[last, vocabulary]`` after each of the last positions of ``inputs`` ``[n, width]``."""
    spec = checkpoint.text
    turns = _turns(checkpoint, len(inputs))
    x = inputs
    for layer in range(spec.layers):
        start = f"language_model.layers.{layer}."
        x = x + _attention(checkpoint, start, _normed(checkpoint, f"{start}input_layernorm", x), turns)
        x = x + _gated(checkpoint, start, _normed(checkpoint, f"{start}post_attention_layernorm", x))
        checkpoint.tensors.release()
    x = _normed(checkpoint, "language_model.norm", x[-last:])
    head = _TABLE if spec.tied else "lm_head.weight"
    pieces = range(0, spec.vocabulary, _HEAD_ROWS)
    return np.concatenate([linear(x, checkpoint.read(head, row, row + _HEAD_ROWS)) for row in pieces], axis=1)


def _normed(checkpoint: Checkpoint, name: str, x: Values) -> Values:
    return rms_norm(x, checkpoint.read(f"{name}.weight"), checkpoint.text.eps)


def _turns(checkpoint: Checkpoint, count: int) -> tuple[Values, Values]:
    """Cosines and sines ``[n, head / 2]`` of the rotary positions."""
    spec = checkpoint.text
    scaling = spec.rope_scaling
    if scaling is not None and scaling.kind != "linear":
        raise NotImplementedError(f"rotary positions scaled by {scaling.kind}")
    rates = spec.rope_theta ** (-np.arange(0, spec.head_dim, 2, dtype=np.float64) / spec.head_dim)
    angles = np.outer(np.arange(count) / (scaling.factor if scaling else 1.0), rates)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _attention(checkpoint: Checkpoint, start: str, x: Values, turns: tuple[Values, Values]) -> Values:
    spec, count = checkpoint.text, len(x)

    def part(letter: str, heads: int) -> Values:
        name = f"{start}self_attn.{letter}_proj"
        bias = checkpoint.read(f"{name}.bias") if f"{name}.bias" in checkpoint else None
        return linear(x, checkpoint.read(f"{name}.weight"), bias).reshape(count, heads, spec.head_dim)

    q, k, v = part("q", spec.heads), part("k", spec.kv_heads), part("v", spec.kv_heads)
    if spec.architecture == "qwen3":
        q = _normed(checkpoint, f"{start}self_attn.q_norm", q)
        k = _normed(checkpoint, f"{start}self_attn.k_norm", k)
    q, k = _turned(q, turns), _turned(k, turns)
    hidden = np.triu(np.full((count, count), -np.inf, np.float32), 1)
    found = np.empty_like(q)
    for head in range(spec.heads):
        shared = head * spec.kv_heads // spec.heads
        scores = q[:, head] @ k[:, shared].T
        scores *= np.float32(spec.head_dim**-0.5)
        scores += hidden
        found[:, head] = softmax(scores) @ v[:, shared]
    return linear(found.reshape(count, -1), checkpoint.read(f"{start}self_attn.o_proj.weight"))


def _turned(x: Values, turns: tuple[Values, Values]) -> Values:
    """transformers turns the two halves of a head against each other."""
    cos, sin = (values[:, None, :] for values in turns)
    half = x.shape[-1] // 2
    one, other = x[..., :half], x[..., half:]
    return np.concatenate([one * cos - other * sin, other * cos + one * sin], axis=-1)


def _gated(checkpoint: Checkpoint, start: str, x: Values) -> Values:
    gate = linear(x, checkpoint.read(f"{start}mlp.gate_proj.weight"))
    gate /= 1 + np.exp(-gate)
    gate *= linear(x, checkpoint.read(f"{start}mlp.up_proj.weight"))
    return linear(gate, checkpoint.read(f"{start}mlp.down_proj.weight"))
