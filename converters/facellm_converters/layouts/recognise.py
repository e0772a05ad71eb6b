"""Which of the supported layouts a checkpoint is, by its configuration; and whether all of it is there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from facellm_converters.checkpoint.tensors import MERGED, TensorInfo
from facellm_converters.errors import BadCheckpoint, Unsupported
from facellm_converters.layouts import names as naming
from facellm_converters.layouts.names import Stored
from facellm_converters.layouts.specs import ACTIVATIONS, Config, TextSpec, VisionSpec, number, text_spec, triple

#: ``architectures`` of config.json that are converted.
SUPPORTED = {
    "InternVLForConditionalGeneration": "internvl",
    "InternVLChatModel": "internvl",
    "LlavaForConditionalGeneration": "llava",
    "FaceLLMNanoForConditionalGeneration": "nano",
}
_OWN_LAYOUT = "InternVLChatModel"

#: ImageNet's and CLIP's means and deviations, where a checkpoint has no preprocessor_config.json.
_NORMAL = {
    "internvl": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "clip": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
}
Colour = tuple[float, float, float]

#: The one tower with RMS norms that llama.cpp knows, by width and layers (InternViT-6B).
_RMS_TOWER = (3200, 45)


@dataclass(frozen=True, slots=True)
class Recognised:
    """Kind, dimensions, and where each weight is stored."""

    kind: str
    text: TextSpec
    vision: VisionSpec
    names: dict[str, Stored]


def recognise(folder: Path, config: Config, infos: Mapping[str, TensorInfo]) -> Recognised:
    """Raises ``Unsupported`` with the architecture found, ``BadCheckpoint`` where something is missing or wrong."""
    architecture = str((config.get("architectures") or ["none"])[0])
    kind = SUPPORTED.get(architecture)
    if kind is None:
        raise Unsupported(
            f"The checkpoint's architecture is {architecture}; supported are {', '.join(SUPPORTED)}.",
            "FaceLLM checkpoints are InternVL3 or 3.5; an adapter alone goes behind --adapter.",
        )
    own = architecture == _OWN_LAYOUT
    about_text = dict(_part(config, "llm_config" if own else "text_config"))
    about_text.setdefault("tie_word_embeddings", config.get("tie_word_embeddings", False))
    found = naming.own(infos) if own else naming.shared(infos)
    text = text_spec(about_text)
    vision = _intern(folder, config, text) if kind == "internvl" else _clip(folder, config, text, kind)
    head = "lm_head.weight"
    wanted, optional = set(_text_names(text)), {head}
    if head not in found or infos[found[head].name].file == MERGED:
        text = replace(text, tied=head not in found)
    wanted |= set(_intern_names(vision, found) if kind == "internvl" else _clip_names(vision, kind))
    if vision.tower == "clip":
        optional |= {name for name in found if name.startswith(("vision_tower.encoder.layers.", "vision_tower.post_"))}
    optional |= {name for name in found if name.startswith("vision_tower.layernorm.")}
    naming.check_complete(found, wanted, optional)
    _check_shapes(infos, found, text, vision)
    return Recognised(kind, text, vision, found)


def _part(config: Config, name: str) -> Config:
    part = config.get(name)
    if not isinstance(part, dict):
        raise BadCheckpoint(f"config.json has no {name}.", "Fetch the checkpoint's config.json again.")
    return part


def _intern(folder: Path, config: Config, text: TextSpec) -> VisionSpec:
    about = _part(config, "vision_config")
    width, layers = number(about, "hidden_size"), number(about, "num_hidden_layers")
    rms = about.get("norm_type", "layer_norm") == "rms_norm"
    if rms != ((width, layers) == _RMS_TOWER):
        raise Unsupported(
            f"The image tower has {layers} layers of {width} with {about.get('norm_type')}: llama.cpp's InternVL graph "
            "has RMS norms in the tower of 45 layers of 3200 only."
        )
    ratio = float(config.get("downsample_ratio", 0.5))
    if not 0 < ratio <= 1 or (1 / ratio) % 1 > 1e-6:
        raise Unsupported(f"downsample_ratio = {ratio}: only one over a whole number is known.")
    if config.get("vision_feature_layer", -1) != -1 or config.get("select_layer", -1) != -1:
        raise Unsupported("The image features are not those of the last layer, which llama.cpp's InternVL graph takes.")
    if str(config.get("ps_version", "v2")) != "v2":
        raise Unsupported("The pixel shuffle is of version v1; llama.cpp's is v2.")
    mean, std = _colours(folder, "internvl")
    return VisionSpec(
        "intern", layers, width, number(about, "intermediate_size"), number(about, "num_attention_heads"),
        float(about.get("layer_norm_eps", 1e-6)), number(about, "image_size"), number(about, "patch_size"),
        _activation(about, "gelu"), round(1 / ratio), text.width, mean, std, rms,
        bool(about.get("use_qk_norm", about.get("qk_normalization", False))),
    )  # fmt: skip


def _clip(folder: Path, config: Config, text: TextSpec, kind: str) -> VisionSpec:
    about = _part(config, "vision_config")
    if about.get("model_type", "clip_vision_model") != "clip_vision_model":
        raise Unsupported(f"The image tower is of the kind {about.get('model_type')}; CLIP's is supported here.")
    layer = config.get("vision_feature_layer", -2)
    total = number(about, "num_hidden_layers")
    if not isinstance(layer, int) or not -total <= layer < 0:
        raise Unsupported(f"vision_feature_layer = {layer}: one layer, counted from the end, is supported.")
    if kind == "llava" and config.get("vision_feature_select_strategy", "default") != "default":
        raise Unsupported("The class token is among the image tokens; llama.cpp leaves it out.")
    eps = float(about.get("layer_norm_eps", 1e-5))
    return VisionSpec(
        "clip", total + 1 + layer, number(about, "hidden_size"), number(about, "intermediate_size"),
        number(about, "num_attention_heads"), eps, number(about, "image_size"), number(about, "patch_size"),
        _activation(about, "quick_gelu"), 2 if kind == "nano" else 1, text.width, *_colours(folder, "clip"),
    )  # fmt: skip


def _activation(about: Config, default: str) -> str:
    name = str(about.get("hidden_act", default))
    if name not in ACTIVATIONS:
        raise Unsupported(f"The image tower's activation is {name}; {', '.join(ACTIVATIONS)} are known.")
    return name


def _colours(folder: Path, kind: str) -> tuple[Colour, Colour]:
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BadCheckpoint(f"{name} cannot be read: {error}.", "Fetch it again.") from error
        about = about.get("image_processor", about)
        if "image_mean" in about:
            return triple(about["image_mean"], "image_mean"), triple(about.get("image_std"), "image_std")
    mean, std = _NORMAL[kind]
    return triple(mean, "image_mean"), triple(std, "image_std")


def _text_names(text: TextSpec) -> Iterator[str]:
    yield from ("language_model.embed_tokens.weight", "language_model.norm.weight")
    parts = ["input_layernorm", "post_attention_layernorm"]
    parts += [f"self_attn.{one}_proj" for one in "qkvo"] + [f"mlp.{one}_proj" for one in ("gate", "up", "down")]
    if text.architecture == "qwen3":
        parts += ["self_attn.q_norm", "self_attn.k_norm"]
    for layer in range(text.layers):
        yield from (f"language_model.layers.{layer}.{part}.weight" for part in parts)
        if text.architecture == "qwen2":
            yield from (f"language_model.layers.{layer}.self_attn.{one}_proj.bias" for one in "qkv")


def _intern_names(vision: VisionSpec, found: Mapping[str, Stored]) -> Iterator[str]:
    tower = "vision_tower.embeddings."
    yield from (tower + "cls_token", tower + "position_embeddings")
    yield from (f"{tower}patch_embeddings.projection.{end}" for end in ("weight", "bias"))
    matrices = ["attention.projection_layer", "mlp.fc1", "mlp.fc2"]
    norms = ["layernorm_before", "layernorm_after"]
    biased = "vision_tower.encoder.layer.0.attention.q_proj.bias" in found
    for layer in range(vision.layers):
        start = f"vision_tower.encoder.layer.{layer}."
        yield from (start + one for one in ("lambda_1", "lambda_2"))
        yield from (f"{start}{part}.{end}" for part in matrices for end in ("weight", "bias"))
        yield from (f"{start}{part}.weight" for part in norms)
        yield from (f"{start}attention.{one}_proj.weight" for one in "qkv")
        if not vision.rms:
            yield from (f"{start}{part}.bias" for part in norms)
        if biased:
            yield from (f"{start}attention.{one}_proj.bias" for one in "qkv")
        if vision.qk_norm:
            yield from (f"{start}attention.{one}_norm.weight" for one in "qk")
    for part in ("layer_norm", "linear_1", "linear_2"):
        yield from (f"multi_modal_projector.{part}.{end}" for end in ("weight", "bias"))


def _clip_names(vision: VisionSpec, kind: str) -> Iterator[str]:
    tower = "vision_tower.embeddings."
    yield from (f"{tower}{one}" for one in ("class_embedding", "patch_embedding.weight", "position_embedding.weight"))
    yield from (f"vision_tower.pre_layrnorm.{end}" for end in ("weight", "bias"))
    parts = ["layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2", "self_attn.out_proj"]
    parts += [f"self_attn.{one}_proj" for one in "qkv"]
    for layer in range(vision.layers):
        start = f"vision_tower.encoder.layers.{layer}."
        yield from (f"{start}{part}.{end}" for part in parts for end in ("weight", "bias"))
    if kind == "nano":
        yield from (f"multi_modal_projector.{one}.weight" for one in ("norm", "fc1", "fc2"))
    else:
        for part in ("linear_1", "linear_2"):
            yield from (f"multi_modal_projector.{part}.{end}" for end in ("weight", "bias"))


def _check_shapes(
    infos: Mapping[str, TensorInfo], found: Mapping[str, Stored], text: TextSpec, vision: VisionSpec
) -> None:
    keys = text.kv_heads * text.head_dim
    queries = text.heads * text.head_dim
    layer = "language_model.layers.0."
    wanted: dict[str, tuple[int, ...]] = {
        "language_model.embed_tokens.weight": (text.vocabulary, text.width),
        f"{layer}self_attn.q_proj.weight": (queries, text.width),
        f"{layer}self_attn.k_proj.weight": (keys, text.width),
        f"{layer}self_attn.v_proj.weight": (keys, text.width),
        f"{layer}self_attn.o_proj.weight": (text.width, queries),
        f"{layer}mlp.up_proj.weight": (text.ffn, text.width),
        f"{layer}mlp.down_proj.weight": (text.width, text.ffn),
    }
    if not text.tied:
        wanted["lm_head.weight"] = (text.vocabulary, text.width)
    for name, shape in list(wanted.items()):
        if name.startswith(layer):
            for number_ in range(1, text.layers):
                wanted[name.replace(".layers.0.", f".layers.{number_}.")] = shape
    mlp1 = (
        "vision_tower.encoder.layer.{}.mlp.fc1.weight"
        if vision.tower == "intern"
        else "vision_tower.encoder.layers.{}.mlp.fc1.weight"
    )
    wanted |= {mlp1.format(number_): (vision.ffn, vision.width) for number_ in range(vision.layers)}
    for name, shape in wanted.items():
        stored = found[name]
        if infos[stored.name].shape != shape:
            raise BadCheckpoint(
                f"{stored.name} is {_by(infos[stored.name].shape)}; by config.json it would be {_by(shape)}.",
                "Weights and config.json are of different models.",
            )


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a single number"
