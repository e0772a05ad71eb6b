"""Every weight that a model's two parts consist of, by its one name, with the shape that its dimensions give it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from facellm_converters.layouts.specs import TextSpec, VisionSpec

Shape = tuple[int, ...]
_Weight = tuple[str, Shape]

HEAD = "lm_head.weight"


def text_weights(spec: TextSpec) -> dict[str, Shape]:
    """Of the language part; a tied head is none of its own."""
    found: dict[str, Shape] = {
        "language_model.embed_tokens.weight": (spec.vocabulary, spec.width),
        "language_model.norm.weight": (spec.width,),
    }
    if not spec.tied:
        found[HEAD] = (spec.vocabulary, spec.width)
    queries, keys = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    for layer in range(spec.layers):
        start = f"language_model.layers.{layer}."
        found |= {f"{start}{name}.weight": (spec.width,) for name in ("input_layernorm", "post_attention_layernorm")}
        for letter, rows in (("q", queries), ("k", keys), ("v", keys)):
            found[f"{start}self_attn.{letter}_proj.weight"] = (rows, spec.width)
            if spec.architecture == "qwen2":
                found[f"{start}self_attn.{letter}_proj.bias"] = (rows,)
        found[f"{start}self_attn.o_proj.weight"] = (spec.width, queries)
        if spec.architecture == "qwen3":
            found |= {f"{start}self_attn.{letter}_norm.weight": (spec.head_dim,) for letter in "qk"}
        found |= {f"{start}mlp.{name}_proj.weight": (spec.ffn, spec.width) for name in ("gate", "up")}
        found[f"{start}mlp.down_proj.weight"] = (spec.width, spec.ffn)
    return found


def vision_weights(spec: VisionSpec, kind: str, *, biased: bool) -> dict[str, Shape]:
    """Of the image tower and its projector. ``biased``: whether InternViT's queries, keys and values have biases."""
    found = dict(_intern_top(spec) if spec.tower == "intern" else _clip_top(spec))
    for layer in range(spec.layers):
        found |= _intern_layer(spec, layer, biased=biased) if spec.tower == "intern" else _clip_layer(spec, layer)
    return found | dict(_projector(spec, kind))


def _intern_top(spec: VisionSpec) -> Iterator[_Weight]:
    start = "vision_tower.embeddings."
    yield f"{start}cls_token", (1, 1, spec.width)
    yield f"{start}position_embeddings", (1, spec.patches + 1, spec.width)
    yield f"{start}patch_embeddings.projection.weight", (spec.width, 3, spec.patch, spec.patch)
    yield f"{start}patch_embeddings.projection.bias", (spec.width,)


def _clip_top(spec: VisionSpec) -> Iterator[_Weight]:
    start = "vision_tower.embeddings."
    yield f"{start}class_embedding", (spec.width,)
    yield f"{start}position_embedding.weight", (spec.patches + 1, spec.width)
    yield f"{start}patch_embedding.weight", (spec.width, 3, spec.patch, spec.patch)
    yield from _with_bias("vision_tower.pre_layrnorm", (spec.width,))


def _intern_layer(spec: VisionSpec, layer: int, *, biased: bool) -> Mapping[str, Shape]:
    start, width = f"vision_tower.encoder.layer.{layer}.", spec.width
    found: dict[str, Shape] = {}
    for name in ("layernorm_before", "layernorm_after"):
        found |= {f"{start}{name}.weight": (width,)} if spec.rms else dict(_with_bias(f"{start}{name}", (width,)))
    for letter in "qkv":
        matrix = dict(_with_bias(f"{start}attention.{letter}_proj", (width, width)))
        found |= matrix if biased else {name: shape for name, shape in matrix.items() if name.endswith("weight")}
    if spec.qk_norm:
        found |= {f"{start}attention.{letter}_norm.weight": (width,) for letter in "qk"}
    found |= dict(_with_bias(f"{start}attention.projection_layer", (width, width)))
    found |= dict(_mlp(start, spec))
    return found | {f"{start}lambda_{number}": (width,) for number in (1, 2)}


def _clip_layer(spec: VisionSpec, layer: int) -> Mapping[str, Shape]:
    start, width = f"vision_tower.encoder.layers.{layer}.", spec.width
    found: dict[str, Shape] = {}
    for name in ("layer_norm1", "layer_norm2"):
        found |= dict(_with_bias(f"{start}{name}", (width,)))
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        found |= dict(_with_bias(f"{start}self_attn.{name}", (width, width)))
    return found | dict(_mlp(start, spec))


def _mlp(start: str, spec: VisionSpec) -> Iterator[_Weight]:
    yield from _with_bias(f"{start}mlp.fc1", (spec.ffn, spec.width))
    yield from _with_bias(f"{start}mlp.fc2", (spec.width, spec.ffn))


def _projector(spec: VisionSpec, kind: str) -> Iterator[_Weight]:
    start, into, out = "multi_modal_projector.", spec.width * spec.shuffle**2, spec.projection
    if kind == "nano":
        yield f"{start}norm.weight", (into,)
        yield f"{start}fc1.weight", (out, into)
        yield f"{start}fc2.weight", (out, out)
        return
    if kind == "internvl":
        yield from _with_bias(f"{start}layer_norm", (into,))
    yield from _with_bias(f"{start}linear_1", (out, into))
    yield from _with_bias(f"{start}linear_2", (out, out))


def _with_bias(name: str, shape: Shape) -> Iterator[_Weight]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]
