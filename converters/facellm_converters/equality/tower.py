"""A checkpoint's image tower and projector, computed in numpy, one layer's weights in memory at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facellm_converters.equality.numbers import Values, activate, layer_norm, linear, rms_norm, softmax
from facellm_converters.equality.projector import projected
from facellm_converters.layouts.checkpoint import Checkpoint

Picture = NDArray[np.uint8]

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
    found: Values = tokens_of_all(checkpoint, [picture])[0]
    return found


def tokens_of_all(checkpoint: Checkpoint, pictures: Sequence[Picture]) -> Values:
    """The same of several pictures: ``[pictures, tokens, width]``; every weight is read once."""
    x = np.stack([_embedded(checkpoint, picture) for picture in pictures])
    for layer in range(checkpoint.vision.layers):
        x = _block(checkpoint, x, layer)
        checkpoint.tensors.release()
    return projected(checkpoint, x[:, 1:])


def _embedded(checkpoint: Checkpoint, picture: Picture) -> Values:
    spec, start = checkpoint.vision, "vision_tower.embeddings."
    mean, std = (np.asarray(colours, np.float32) for colours in (spec.mean, spec.std))
    pixels = ((picture.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1).astype(np.float32)
    count, patch = spec.image // spec.patch, spec.patch
    grid = pixels[:, : count * patch, : count * patch].reshape(3, count, patch, count, patch)
    patches = np.ascontiguousarray(grid.transpose(1, 3, 0, 2, 4)).reshape(count * count, -1)
    intern = spec.tower == "intern"
    kernel = f"{start}patch_embeddings.projection" if intern else f"{start}patch_embedding"
    weight = checkpoint.read(f"{kernel}.weight")
    x = linear(patches, weight.reshape(len(weight), -1), _maybe(checkpoint, f"{kernel}.bias"))
    token = checkpoint.read(start + ("cls_token" if intern else "class_embedding")).reshape(1, -1)
    table = checkpoint.read(start + ("position_embeddings" if intern else "position_embedding.weight"))
    x = np.concatenate([token, x]) + table.reshape(-1, spec.width)
    if not intern:
        weight, bias = (checkpoint.read(f"vision_tower.pre_layrnorm.{end}") for end in ("weight", "bias"))
        x = layer_norm(x, weight, bias, spec.eps)
    return x


def _block(checkpoint: Checkpoint, x: Values, layer: int) -> Values:
    """``x``: ``[pictures, n, width]``."""
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
        parts[letter] = rms_norm(parts[letter], gain, spec.eps)  # over all heads together
    x = x + _scaled(checkpoint, f"{start}lambda_1", through(_attention(parts, spec.heads), names["out"]))
    inner = through(activate(through(normed(x, names["norm2"]), "mlp.fc1"), spec.activation), "mlp.fc2")
    return x + _scaled(checkpoint, f"{start}lambda_2", inner)


def _attention(parts: dict[str, Values], heads: int) -> Values:
    """Every patch sees all patches of its picture: ``[pictures, n, width]``; one head's scores in memory at a time."""
    pictures, count, width = parts["q"].shape
    q, k, v = (parts[letter].reshape(pictures, count, heads, -1) for letter in "qkv")
    found = np.empty_like(q)
    for picture in range(pictures):
        for head in range(heads):
            scores = q[picture, :, head] @ k[picture, :, head].T
            scores *= np.float32(q.shape[-1] ** -0.5)
            found[picture, :, head] = softmax(scores) @ v[picture, :, head]
    return found.reshape(pictures, count, width)


def _scaled(checkpoint: Checkpoint, name: str, values: Values) -> Values:
    return values * checkpoint.read(name) if name in checkpoint else values


def _maybe(checkpoint: Checkpoint, name: str) -> Values | None:
    return checkpoint.read(name) if name in checkpoint else None
