"""A checkpoint's image tower and projector, computed in numpy, one layer's weights in memory at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facellm_converters.equality.numbers import Values, activate, layer_norm, linear, rms_norm, softmax
from facellm_converters.layouts.checkpoint import Checkpoint

Picture = NDArray[np.uint8]

#: PyTorch's default in InternVL's projector, and what the nano's was trained with.
_PROJECTOR_EPS, _NANO_EPS = 1e-5, 1e-6

_INTERN = {
    "layer": "vision_tower.encoder.layer.{}.", "norm1": "layernorm_before", "norm2": "layernorm_after",
    "q": "attention.q_proj", "k": "attention.k_proj", "v": "attention.v_proj", "out": "attention.projection_layer",
}  # fmt: skip
_CLIP = {
    "layer": "vision_tower.encoder.layers.{}.", "norm1": "layer_norm1", "norm2": "layer_norm2",
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "out": "self_attn.out_proj",
}  # fmt: skip


def image_tokens(checkpoint: Checkpoint, picture: Picture) -> Values:
    """What the language part is given for one tile: ``[tokens, width]``.

    ``picture``: uint8 RGB ``[side, side, 3]`` of exactly the tile's side.
    """
    spec = checkpoint.vision
    x = _embedded(checkpoint, picture)
    for layer in range(spec.layers):
        x = _block(checkpoint, x, layer)
        checkpoint.tensors.release()
    return _projected(checkpoint, _shuffled(x[1:], spec.shuffle))


def _embedded(checkpoint: Checkpoint, picture: Picture) -> Values:
    spec, start = checkpoint.vision, "vision_tower.embeddings."
    pixels = (picture.astype(np.float32) / 255 - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)
    count, patch = spec.image // spec.patch, spec.patch
    grid = pixels.transpose(2, 0, 1).reshape(3, count, patch, count, patch)
    patches: Values = np.ascontiguousarray(grid.transpose(1, 3, 0, 2, 4), np.float32).reshape(count * count, -1)
    intern = spec.tower == "intern"
    kernel = f"{start}patch_embeddings.projection" if intern else f"{start}patch_embedding"
    weight = checkpoint.read(f"{kernel}.weight")
    x = linear(patches, weight.reshape(len(weight), -1), _maybe(checkpoint, f"{kernel}.bias"))
    token = checkpoint.read(start + ("cls_token" if intern else "class_embedding")).reshape(1, -1)
    table = checkpoint.read(start + ("position_embeddings" if intern else "position_embedding.weight"))
    x = np.concatenate([token, x]) + table.reshape(-1, spec.width)
    if not intern:
        norm = "vision_tower.pre_layrnorm"
        x = layer_norm(x, checkpoint.read(f"{norm}.weight"), checkpoint.read(f"{norm}.bias"), spec.eps)
    return x


def _block(checkpoint: Checkpoint, x: Values, layer: int) -> Values:
    spec = checkpoint.vision
    names = _INTERN if spec.tower == "intern" else _CLIP
    start = names["layer"].format(layer)

    def normed(values: Values, name: str) -> Values:
        weight = checkpoint.read(f"{start}{name}.weight")
        if spec.rms:
            return rms_norm(values, weight, spec.eps)
        return layer_norm(values, weight, checkpoint.read(f"{start}{name}.bias"), spec.eps)

    def through(values: Values, name: str) -> Values:
        return linear(values, checkpoint.read(f"{start}{name}.weight"), _maybe(checkpoint, f"{start}{name}.bias"))

    inner = normed(x, names["norm1"])
    parts = {letter: through(inner, names[letter]) for letter in "qkv"}
    for letter in "qk" if spec.qk_norm else "":
        gain = checkpoint.read(f"{start}attention.{letter}_norm.weight")
        parts[letter] = rms_norm(parts[letter], gain, spec.eps)
    x = x + _scaled(checkpoint, f"{start}lambda_1", through(_attention(parts, spec.heads), names["out"]))
    inner = through(activate(through(normed(x, names["norm2"]), "mlp.fc1"), spec.activation), "mlp.fc2")
    return x + _scaled(checkpoint, f"{start}lambda_2", inner)


def _attention(parts: dict[str, Values], heads: int) -> Values:
    q, k, v = (parts[letter].reshape(len(parts[letter]), heads, -1).transpose(1, 0, 2) for letter in "qkv")
    found = np.empty_like(q)
    for head in range(heads):
        scores = q[head] @ k[head].T
        scores *= np.float32(q.shape[-1] ** -0.5)
        found[head] = softmax(scores) @ v[head]
    return np.ascontiguousarray(found.transpose(1, 0, 2)).reshape(q.shape[1], -1)


def _scaled(checkpoint: Checkpoint, name: str, values: Values) -> Values:
    return values * checkpoint.read(name) if name in checkpoint else values


def _shuffled(x: Values, factor: int) -> Values:
    """``factor``×``factor`` neighbouring patches, row by row, become the channels of one token."""
    side, width = int(len(x) ** 0.5), x.shape[1]
    small = side // factor
    grid = x.reshape(small, factor, small, factor, width).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(grid).reshape(small * small, factor * factor * width)


def _projected(checkpoint: Checkpoint, x: Values) -> Values:
    start = "multi_modal_projector."

    def read(name: str) -> Values:
        return checkpoint.read(start + name)

    if checkpoint.kind == "nano":
        inner = linear(rms_norm(x, read("norm.weight"), _NANO_EPS), read("fc1.weight"))
        return linear(np.square(np.maximum(inner, 0)), read("fc2.weight"))
    if checkpoint.kind == "internvl":
        x = layer_norm(x, read("layer_norm.weight"), read("layer_norm.bias"), _PROJECTOR_EPS)
    inner = activate(linear(x, read("linear_1.weight"), read("linear_1.bias")), "gelu")
    return linear(inner, read("linear_2.weight"), read("linear_2.bias"))


def _maybe(checkpoint: Checkpoint, name: str) -> Values | None:
    return checkpoint.read(name) if name in checkpoint else None
