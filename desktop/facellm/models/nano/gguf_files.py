"""Writes the nano's two GGUF files from weights in memory. A change of what is written raises ``pair.LAYOUT``."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellm.core import canary
from facellm.core.errors import ModelPartError
from facellm.models.nano import clip_onnx, smollm2
from facellm.models.nano.deltas import Deltas, Lora

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
#: ``clip.vision.image_std``, which divides a value of 0..1: pixels become value / 64 (see ``_for_raw_pixels``).
PIXEL_STD = 64 / 255
#: general.file_type of llama.cpp (``llama_ftype``).
MOSTLY_F16, MOSTLY_Q8_0 = 1, 7
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
#: Keys of the source that are not copied: written anew, or describing a fine-tune that this no longer is.
_REPLACED = (
    "general.architecture", "general.basename", "general.file_type", "general.finetune", "general.license",
    "general.name", "general.organization", "general.quantization_version", "general.type",
    "tokenizer.chat_template",
)  # fmt: skip


def write_language(path: Path, part: smollm2.LanguagePart, deltas: Deltas, pair: str, progress: Progress) -> None:
    """The language model with its LoRA merged: matrices Q8_0, norms float32.

    Merged in float64 and rounded once to float32 (``Lora`` says why that gives the same bytes everywhere).
    """
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
    loras = {_language_name(module): lora for module, lora in deltas.loras.items() if module.startswith("language.")}
    names = part.names()
    for number, name in enumerate(names):
        weight = _merged(part.weight(name), loras.pop(name, None), name, _heads(name))
        if weight.ndim == 1:
            writer.add_tensor(name, weight)
        else:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quants.quantize(weight, kind), raw_dtype=kind)
        progress((number + 1) / len(names))
    _all_used(loras, "language model")
    _finish(writer)


def _language_name(module: str) -> str:
    """``language.layers.3.self_attn.q_proj`` → ``blk.3.attn_q.weight``."""
    _, _, layer, kind = module.split(".", 3)
    return f"blk.{layer}.{smollm2.GGUF_NAME[kind]}.weight"


def _heads(name: str) -> int:
    """Heads of a query or key matrix, whose rows llama.cpp has in another order; 0 for all others."""
    if name.endswith(".attn_q.weight"):
        return smollm2.HEADS
    return smollm2.KV_HEADS if name.endswith(".attn_k.weight") else 0


def _merged(weight: NDArray[np.float32], lora: Lora | None, name: str, heads: int = 0) -> NDArray[np.float32]:
    """``weight`` plus what training changed; ``heads``: the weight's rows are already in llama.cpp's order."""
    if lora is None:
        return weight
    change = lora.change()
    if change.shape != weight.shape:
        raise ModelPartError(f"The deltas change {name} by {change.shape}, but it is {weight.shape}.")
    if heads:
        change = smollm2.permute_rows(change, heads)
    return np.asarray(weight.astype(np.float64) + change, np.float32)


def _all_used(loras: dict[str, Lora], where: str) -> None:
    if loras:
        raise ModelPartError(f"The deltas change parts that the {where} lacks: {', '.join(sorted(loras)[:5])}.")


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
    position = tower["embeddings.position_embedding.weight"]
    kernel, offset = _for_raw_pixels(tower["embeddings.patch_embedding.weight"])
    put.exact("v.class_embd", (tower["embeddings.class_embedding"] + position[0])[None])
    put.exact("v.position_embd.weight", position[1:] + offset)
    put.half("v.patch_embd.weight", kernel)
    put.exact("v.pre_ln.weight", tower["pre_layrnorm.weight"])
    put.exact("v.pre_ln.bias", tower["pre_layrnorm.bias"])
    loras = {module: lora for module, lora in deltas.loras.items() if module.startswith("tower.")}
    for block in range(clip_onnx.BLOCKS):
        for source, name in _TOWER_NAME.items():
            module = f"layers.{block}.{source}"
            weight = _merged(tower[f"encoder.{module}.weight"], loras.pop(f"tower.{module}", None), module)
            (put.exact if weight.ndim == 1 else put.half)(f"v.blk.{block}.{name}.weight", weight)
            put.exact(f"v.blk.{block}.{name}.bias", tower[f"encoder.{module}.bias"])
        progress((block + 1) / clip_onnx.BLOCKS)
    _all_used(loras, "image tower")
    put.exact("mm.model.mlp.0.weight", deltas.projector["projector.norm.weight"])
    put.half("mm.model.mlp.1.weight", deltas.projector["projector.fc1.weight"])
    put.half("mm.model.mlp.3.weight", deltas.projector["projector.fc2.weight"])
    _finish(writer)


def _for_raw_pixels(kernel: NDArray[np.float32]) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Patch kernel for pixels as ``value / 64``, and what CLIP's mean then adds to every patch, ``[768]``.

    llama.cpp rounds the normalised picture to float16 before the patch kernel, whatever the kernel's type.
    CLIP amplifies that: the worst token's cosine to PyTorch was 0.9988, all of it from this one rounding.
    ``value / 64`` is exact in float16, so scale and mean move into the kernel and the position table. The
    offset uses the rounded kernel, so that a grey picture of the mean gives what it gives in float32.
    """
    mean, std = (
        np.array(values, np.float64)[None, :, None, None] for values in (clip_onnx.IMAGE_MEAN, clip_onnx.IMAGE_STD)
    )
    scaled = (kernel.astype(np.float64) * PIXEL_STD / std).astype(np.float16)
    shares = (scaled.astype(np.float64) * mean / PIXEL_STD).reshape(len(scaled), -1)
    offset = np.array([-math.fsum(row) for row in shares])  # exact: numpy's order of summing is the machine's
    return scaled, offset.astype(np.float32)


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
