"""Writes the nano's two GGUF files from weights in memory. A change of what is written raises ``pair.LAYOUT``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellm.core import canary
from facellm.models.nano import clip_onnx, smollm2
from facellm.models.nano.deltas import Deltas
from facellm.models.nano.merged import PIXEL_STD, merged_language, merged_tower, raw_kernel

Progress = Callable[[float], None]

#: Plain ChatML. SmolLM2's own template adds a system prompt about its makers, which training does not use.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ATTRIBUTION = (
    "SmolLM2-135M-Instruct (Hugging Face, Apache-2.0); CLIP ViT-B/16 (OpenAI, MIT); "
    "FairFace (Kärkkäinen & Joo, CC BY 4.0)"
)
#: general.file_type of llama.cpp (``llama_ftype``).
MOSTLY_F16, MOSTLY_Q8_0 = 1, 7
#: A CLIP tower's modules in a checkpoint, and what llama.cpp calls them.
CLIP_NAMES = {
    "layer_norm1": "ln1",
    "layer_norm2": "ln2",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}
#: Keys of the source that are not copied: written anew, or describing a fine-tune that this no longer is.
_REPLACED = (
    "general.architecture", "general.basename", "general.file_type", "general.finetune", "general.license",
    "general.name", "general.organization", "general.quantization_version", "general.type",
    "tokenizer.chat_template",
)  # fmt: skip


def write_language(path: Path, part: smollm2.LanguagePart, deltas: Deltas, pair: str, progress: Progress) -> None:
    """The language model with its LoRA merged: matrices Q8_0, norms float32."""
    from gguf import GGMLQuantizationType, GGUFWriter, quants

    writer = GGUFWriter(path, "llama")
    _common(writer, pair, deltas, "model", "FaceLLM-nano", "apache-2.0")
    _base_model(writer, "SmolLM2-135M-Instruct", "HuggingFaceTB")
    writer.add_file_type(MOSTLY_Q8_0)
    writer.add_float32("facellm.choice_temperature", deltas.choice_temperature)
    for key, value, kind, element in part.fields():
        if key not in _REPLACED:
            writer.add_key_value(key, value, kind, element)
    writer.add_string("tokenizer.chat_template", CHAT_TEMPLATE)
    count = len(part.names())
    for number, (name, weight) in enumerate(merged_language(part, deltas)):
        if weight.ndim == 1:
            writer.add_tensor(name, weight)
        else:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quants.quantize(weight, kind), raw_dtype=kind)
        progress((number + 1) / count)
    _finish(writer)


def write_mmproj(path: Path, tower: clip_onnx.Weights, deltas: Deltas, pair: str, progress: Progress) -> None:
    """Tower and projector in llama.cpp's ``nemotron_v2_vl`` layout, matrices float16.

    That graph puts the class token first and removes it correctly (the LLaVA and InternVL graphs
    do not), so the class token carries its own position and the table holds the 196 patches only.
    """
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "clip")
    _common(writer, pair, deltas, "mmproj", "FaceLLM-nano image tower", "mit")
    _base_model(writer, "CLIP ViT-B/16", "OpenAI")
    writer.add_file_type(MOSTLY_F16)
    _vision_fields(writer)
    _canary_fields(writer, deltas)
    put = _Put(writer)
    tower = merged_tower(tower, deltas)
    position = tower["embeddings.position_embedding.weight"]
    kernel, offset = raw_kernel(
        tower["embeddings.patch_embedding.weight"], clip_onnx.IMAGE_MEAN, clip_onnx.IMAGE_STD, half=True
    )
    put.exact("v.class_embd", (tower["embeddings.class_embedding"] + position[0])[None])
    put.exact("v.position_embd.weight", position[1:] + offset)
    put.half("v.patch_embd.weight", kernel)
    put.exact("v.pre_ln.weight", tower["pre_layrnorm.weight"])
    put.exact("v.pre_ln.bias", tower["pre_layrnorm.bias"])
    for block in range(clip_onnx.BLOCKS):
        for source, name in CLIP_NAMES.items():
            module = f"encoder.layers.{block}.{source}"
            weight = tower[f"{module}.weight"]
            (put.exact if weight.ndim == 1 else put.half)(f"v.blk.{block}.{name}.weight", weight)
            put.exact(f"v.blk.{block}.{name}.bias", tower[f"{module}.bias"])
        progress((block + 1) / clip_onnx.BLOCKS)
    put.exact("mm.model.mlp.0.weight", deltas.projector["projector.norm.weight"])
    put.half("mm.model.mlp.1.weight", deltas.projector["projector.fc1.weight"])
    put.half("mm.model.mlp.3.weight", deltas.projector["projector.fc2.weight"])
    _finish(writer)


class _Put:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def exact(self, name: str, values: NDArray[Any]) -> None:
        self._writer.add_tensor(name, np.ascontiguousarray(values, np.float32))

    def half(self, name: str, values: NDArray[Any]) -> None:
        self._writer.add_tensor(name, np.ascontiguousarray(values, np.float32).astype(np.float16))


def _common(writer: Any, pair: str, deltas: Deltas, kind: str, name: str, licence: str) -> None:
    """First in the file, so that who asks for the pair's id reads a few hundred bytes and no vocabulary."""
    writer.add_string("facellm.pair", pair)
    writer.add_string("facellm.version", deltas.version)
    writer.add_string("facellm.trained", deltas.trained)
    writer.add_type(kind)
    writer.add_name(name)
    writer.add_license(licence)
    writer.add_quantization_version(2)
    writer.add_string("general.attribution", ATTRIBUTION)


def _base_model(writer: Any, name: str, organization: str) -> None:
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, name)
    writer.add_base_model_organization(0, organization)


def _vision_fields(writer: Any) -> None:
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("nemotron_v2_vl")
    writer.add_vision_projection_dim(smollm2.WIDTH)
    writer.add_vision_image_size(clip_onnx.IMAGE_SIZE)
    writer.add_vision_patch_size(clip_onnx.PATCH_SIZE)
    writer.add_vision_embedding_length(clip_onnx.WIDTH)
    writer.add_vision_feed_forward_length(clip_onnx.MLP_WIDTH)
    writer.add_vision_block_count(clip_onnx.BLOCKS)
    writer.add_vision_head_count(clip_onnx.HEADS)
    writer.add_vision_image_mean([0.0] * 3)
    writer.add_vision_image_std([PIXEL_STD] * 3)
    writer.add_vision_attention_layernorm_eps(clip_onnx.LAYER_NORM_EPS)
    writer.add_vision_projector_scale_factor(2)


def _canary_fields(writer: Any, deltas: Deltas) -> None:
    if deltas.canary is not None:
        writer.add_string("facellm.canary.picture", canary.PICTURE)
        writer.add_uint32("facellm.canary.tokens", len(deltas.canary))
        writer.add_array("facellm.canary.embedding", [float(value) for value in deltas.canary.ravel()])


def _finish(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
