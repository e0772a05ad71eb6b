"""Writes the nano's two GGUF files from weights in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellm.core import canary
from facellm.core.errors import ModelPartError
from facellm.models.nano import clip_onnx, smollm2
from facellm.models.nano.deltas import Deltas, update

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
_TOWER_NAME = {
    "layer_norm1": "ln1",
    "layer_norm2": "ln2",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}
_REPLACED = ("general.architecture", "general.file_type", "general.name", "tokenizer.chat_template",
             "general.quantization_version")  # fmt: skip


def write_language(path: Path, part: smollm2.LanguagePart, deltas: Deltas, pair: str, progress: Progress) -> None:
    """The language model with its LoRA merged: matrices Q8_0, norms float32."""
    from gguf import GGMLQuantizationType, GGUFWriter, quants

    writer = GGUFWriter(path, "llama")
    for key, value, kind, element in part.fields():
        if key not in _REPLACED:
            writer.add_key_value(key, value, kind, element)
    _common(writer, pair, deltas, "FaceLLM-nano", 7)
    writer.add_string("tokenizer.chat_template", CHAT_TEMPLATE)
    writer.add_float32("facellm.choice_temperature", deltas.choice_temperature)
    updates = _language_updates(deltas)
    names = part.names()
    for number, name in enumerate(names):
        weight = part.weight(name)
        change = updates.pop(name, None)
        if change is not None:
            weight = (weight.astype(np.float64) + change).astype(np.float32)
        if weight.ndim == 1:
            writer.add_tensor(name, weight)
        else:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quants.quantize(weight, kind), raw_dtype=kind)
        progress((number + 1) / len(names))
    if updates:
        raise ModelPartError(f"The deltas change tensors that the language model lacks: {', '.join(sorted(updates)[:5])}")
    _finish(writer)


def _language_updates(deltas: Deltas) -> dict[str, NDArray[np.float64]]:
    """GGUF tensor name → update, query and key rows already in llama.cpp's order."""
    updates = {}
    for module in deltas.loras:
        if not module.startswith("language."):
            continue
        _, _, layer, kind = module.split(".", 3)
        change = update(deltas, module, deltas.language_scale)
        assert change is not None
        if kind == "self_attn.q_proj":
            change = smollm2.permute_rows(change, smollm2.HEADS)
        elif kind == "self_attn.k_proj":
            change = smollm2.permute_rows(change, smollm2.KV_HEADS)
        updates[f"blk.{layer}.{smollm2.GGUF_NAME[kind]}.weight"] = change
    return updates


def write_mmproj(path: Path, tower: clip_onnx.Weights, deltas: Deltas, pair: str, progress: Progress) -> None:
    """Tower and projector in llama.cpp's ``nemotron_v2_vl`` layout, matrices float16.

    That graph puts the class token first and removes it correctly (the LLaVA and InternVL graphs
    do not), so the class token carries its own position and the table holds the 196 patches only.
    """
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    _common(writer, pair, deltas, "FaceLLM-nano image tower", 1)
    _vision_fields(writer)
    _canary_fields(writer, deltas)
    position = tower["embeddings.position_embedding.weight"]
    put = _Put(writer)
    put.exact("v.class_embd", (tower["embeddings.class_embedding"] + position[0])[None])
    put.exact("v.position_embd.weight", position[1:])
    put.half("v.patch_embd.weight", tower["embeddings.patch_embedding.weight"])
    put.exact("v.pre_ln.weight", tower["pre_layrnorm.weight"])
    put.exact("v.pre_ln.bias", tower["pre_layrnorm.bias"])
    used = set()
    for block in range(clip_onnx.BLOCKS):
        for source, name in _TOWER_NAME.items():
            weight = tower[f"encoder.layers.{block}.{source}.weight"]
            module = f"tower.layers.{block}.{source}"
            change = update(deltas, module, deltas.tower_scale)
            if change is not None:
                used.add(module)
                weight = (weight.astype(np.float64) + change).astype(np.float32)
            (put.exact if weight.ndim == 1 else put.half)(f"v.blk.{block}.{name}.weight", weight)
            put.exact(f"v.blk.{block}.{name}.bias", tower[f"encoder.layers.{block}.{source}.bias"])
        progress((block + 1) / clip_onnx.BLOCKS)
    unused = {module for module in deltas.loras if module.startswith("tower.")} - used
    if unused:
        raise ModelPartError(f"The deltas change parts that the image tower lacks: {', '.join(sorted(unused)[:5])}")
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


def _common(writer: Any, pair: str, deltas: Deltas, name: str, file_type: int) -> None:
    writer.add_name(name)
    writer.add_file_type(file_type)
    writer.add_quantization_version(2)
    writer.add_string("general.attribution", ATTRIBUTION)
    writer.add_string("facellm.pair", pair)
    writer.add_string("facellm.version", deltas.version)
    writer.add_string("facellm.trained", deltas.trained)


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
    writer.add_vision_image_mean(list(clip_onnx.IMAGE_MEAN))
    writer.add_vision_image_std(list(clip_onnx.IMAGE_STD))
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
