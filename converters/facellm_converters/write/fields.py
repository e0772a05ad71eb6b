"""The fields of both files: what llama.cpp needs to know, and where the model comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gguf
import numpy as np
from gguf import LlamaFileType, RopeScalingType, VisionProjectorType
from numpy.typing import NDArray

from facellm.models.nano.merged import PIXEL_STD
from facellm_converters.errors import Unsupported
from facellm_converters.layouts.checkpoint import Checkpoint
from facellm_converters.layouts.specs import RopeScaling, TextSpec

#: How the position table of the image tower is laid out, so that a runtime that has mended its graph is recognised.
LAYOUT = "facellm.vision.pos_embd_layout"
CLASS_LAST, CLASS_FOLDED = "cls_last", "cls_folded"

#: Names of ``--quant`` → what GGUF calls a file of that kind.
FILE_TYPES = {
    "F32": LlamaFileType.ALL_F32,
    "F16": LlamaFileType.MOSTLY_F16,
    "BF16": LlamaFileType.MOSTLY_BF16,
    "Q8_0": LlamaFileType.MOSTLY_Q8_0,
}

#: Tokens whose embedding is stored as the canary: a shift by one patch shows in any of them.
CANARY_TOKENS = 32
#: Bytes of the smallest shard; less is a slip of the pen.
LEAST_SPLIT = 1 << 16


@dataclass(frozen=True, slots=True)
class About:
    """Where a model comes from. ``pair``: the id that both of its files carry.

    ``attribution``: whom licences ask to name. ``temperature``: by which the engine divides the logits of a closed
    question's letters, where one was fitted.
    """

    name: str
    pair: str
    licence: str = ""
    base_models: Sequence[str] = ()
    datasets: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    attribution: str = ""
    temperature: float | None = None


def text_fields(writer: Any, checkpoint: Checkpoint, about: About, kind: str) -> None:
    """Fields of the language part, but for its vocabulary."""
    spec = checkpoint.text
    _common(writer, about, "model", kind)
    if about.temperature is not None:
        writer.add_float32("facellm.choice_temperature", about.temperature)
    writer.add_block_count(spec.layers)
    writer.add_context_length(spec.context)
    writer.add_embedding_length(spec.width)
    writer.add_feed_forward_length(spec.ffn)
    writer.add_head_count(spec.heads)
    writer.add_head_count_kv(spec.kv_heads)
    writer.add_layer_norm_rms_eps(spec.eps)
    writer.add_rope_freq_base(spec.rope_theta)
    if spec.head_dim * spec.heads != spec.width or spec.architecture == "qwen3":
        writer.add_key_length(spec.head_dim)
        writer.add_value_length(spec.head_dim)
    if spec.architecture == "llama":
        writer.add_rope_dimension_count(spec.head_dim)
        writer.add_vocab_size(spec.vocabulary)
    if spec.rope_scaling is not None:
        _scaling(writer, spec, spec.rope_scaling)


def _scaling(writer: Any, spec: TextSpec, scaling: RopeScaling) -> None:
    writer.add_rope_scaling_factor(scaling.factor)
    if scaling.kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        return
    writer.add_rope_scaling_type(RopeScalingType.YARN)
    writer.add_rope_scaling_orig_ctx_len(scaling.original_context or spec.context)
    for name, add in (
        ("extrapolation_factor", writer.add_rope_scaling_yarn_ext_factor),
        ("attention_factor", writer.add_rope_scaling_yarn_attn_factor),
        ("beta_fast", writer.add_rope_scaling_yarn_beta_fast),
        ("beta_slow", writer.add_rope_scaling_yarn_beta_slow),
    ):
        if name in scaling.extra:
            add(scaling.extra[name])


def vision_fields(
    writer: Any, checkpoint: Checkpoint, about: About, kind: str, canary: tuple[str, NDArray[np.float32]] | None
) -> None:
    """Fields of the mmproj. ``canary``: the picture's name and its embedding ``[tokens, width]``."""
    spec = checkpoint.vision
    _common(writer, about, "mmproj", kind)
    writer.add_clip_has_vision_encoder(True)
    writer.add_vision_projection_dim(spec.projection)
    writer.add_vision_image_size(spec.image)
    writer.add_vision_patch_size(spec.patch)
    writer.add_vision_embedding_length(spec.width)
    writer.add_vision_feed_forward_length(spec.ffn)
    writer.add_vision_head_count(spec.heads)
    # The nano's are in its patch kernel already, see ``plan``.
    mean, std = ((0.0,) * 3, (PIXEL_STD,) * 3) if checkpoint.kind == "nano" else (spec.mean, spec.std)
    writer.add_vision_image_mean(list(mean))
    writer.add_vision_image_std(list(std))
    writer.add_vision_attention_layernorm_eps(spec.eps)
    _activation(writer, spec.activation)
    writer.add_vision_block_count(spec.layers)
    if checkpoint.kind == "internvl":
        writer.add_clip_projector_type(VisionProjectorType.INTERNVL)
        writer.add_vision_projector_scale_factor(spec.shuffle)
        # One picture is one tile: llama.cpp and transformers cut larger ones differently.
        writer.add_vision_preproc_min_tiles(1)
        writer.add_vision_preproc_max_tiles(1)
    elif checkpoint.kind == "nano":
        writer.add_clip_projector_type("nemotron_v2_vl")
        writer.add_vision_projector_scale_factor(spec.shuffle)
    else:
        writer.add_clip_projector_type("mlp")
        # Without this the llava graph would leave out the last block that the file has.
        writer.add_array("clip.vision.feature_layer", [spec.layers])
    writer.add_string(LAYOUT, CLASS_FOLDED if checkpoint.kind == "nano" else CLASS_LAST)
    if canary is not None:
        picture, embedding = canary
        writer.add_string("facellm.canary.picture", picture)
        writer.add_uint32("facellm.canary.tokens", len(embedding))
        writer.add_array("facellm.canary.embedding", [float(value) for value in embedding.ravel()])


def _activation(writer: Any, name: str) -> None:
    if name == "gelu":
        writer.add_vision_use_gelu(True)
    elif name == "silu":
        writer.add_vision_use_silu(True)
    elif name != "quick_gelu":  # which is llama.cpp's default
        raise Unsupported(f"The image tower's activation is {name}.")


def _common(writer: Any, about: About, what: str, kind: str) -> None:
    writer.add_string("facellm.pair", about.pair)
    writer.add_type(what)
    writer.add_name(about.name)
    if about.licence:
        writer.add_license(about.licence)
    if about.attribution:
        writer.add_string("general.attribution", about.attribution)
    if about.base_models:
        writer.add_base_model_count(len(about.base_models))
        for number, name in enumerate(about.base_models):
            owner, _, short = name.rpartition("/")
            writer.add_base_model_name(number, short)
            if owner:
                writer.add_base_model_organization(number, owner)
                writer.add_base_model_repo_url(number, f"https://huggingface.co/{name}")
    if about.datasets:
        writer.add_dataset_count(len(about.datasets))
        for number, name in enumerate(about.datasets):
            writer.add_dataset_name(number, name)
    for key, value in sorted(about.provenance.items()):
        writer.add_string(f"facellm.{key}", value)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(FILE_TYPES[kind])
