"""Which of the supported layouts a checkpoint is, by its configuration; and whether all of it is there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from facellm_converters.checkpoint.json_file import read_json
from facellm_converters.checkpoint.tensors import MERGED, TensorInfo
from facellm_converters.errors import BadCheckpoint, Unsupported
from facellm_converters.layouts import names as naming
from facellm_converters.layouts.names import Stored
from facellm_converters.layouts.specs import ACTIVATIONS, Config, TextSpec, VisionSpec, number, text_spec, triple
from facellm_converters.layouts.weights import HEAD, Shape, text_weights, vision_weights

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

#: What a checkpoint may hold though nothing reads it: a tied head's copy, CLIP's layers behind the one that is taken.
_IDLE = re.compile(r"lm_head\.weight$|vision_tower\.(encoder\.layers|post_layernorm|layernorm)\.")

#: The one tower with RMS norms that llama.cpp knows, by width and layers (InternViT-6B).
_RMS_TOWER = (3200, 45)


@dataclass(frozen=True, slots=True)
class Recognised:
    """Kind, dimensions, each weight's shape, and where it is stored."""

    kind: str
    text: TextSpec
    vision: VisionSpec
    weights: dict[str, Shape]
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
    if kind == "nano":
        _check_nano(config)
    vision = _intern(folder, config, text) if kind == "internvl" else _clip(folder, config, text, kind)
    if HEAD not in found or infos[found[HEAD].name].file == MERGED:
        text = replace(text, tied=HEAD not in found)
    biased = "vision_tower.encoder.layer.0.attention.q_proj.bias" in found
    weights = text_weights(text) | vision_weights(vision, kind, biased=biased)
    naming.check_complete(found, weights, filter(_IDLE.match, found))
    _check_shapes(infos, found, weights)
    return Recognised(kind, text, vision, weights, found)


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


def _check_nano(config: Config) -> None:
    """llama.cpp's ``nemotron_v2_vl`` graph has these built in."""
    for name, only in (("downsample_ratio", 0.5), ("projector_hidden_act", "relu2"), ("projector_norm_eps", 1e-6)):
        if config.get(name, only) != only:
            raise Unsupported(f"{name} = {config[name]}: the nano's layout has {only}, which llama.cpp computes.")


def _activation(about: Config, default: str) -> str:
    name = str(about.get("hidden_act", default))
    if name not in ACTIVATIONS:
        raise Unsupported(f"The image tower's activation is {name}; {', '.join(ACTIVATIONS)} are known.")
    return name


def _colours(folder: Path, kind: str) -> tuple[Colour, Colour]:
    for name in ("preprocessor_config.json", "processor_config.json"):
        if not (folder / name).is_file():
            continue
        about = read_json(folder / name)
        about = about.get("image_processor", about)
        if "image_mean" in about:
            return triple(about["image_mean"], "image_mean"), triple(about.get("image_std"), "image_std")
    mean, std = _NORMAL[kind]
    return triple(mean, "image_mean"), triple(std, "image_std")


def _check_shapes(infos: Mapping[str, TensorInfo], found: Mapping[str, Stored], weights: Mapping[str, Shape]) -> None:
    for name, shape in weights.items():
        stored = found[name].shape(infos)
        if stored != shape:
            raise BadCheckpoint(
                f"{found[name].name} is {_by(stored)}; by config.json it would be {_by(shape)}.",
                "Weights and config.json are of different models.",
            )


def _by(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "a single number"
