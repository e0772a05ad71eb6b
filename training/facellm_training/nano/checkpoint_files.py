"""What a checkpoint folder of the nano says of itself: config.json, preprocessor_config.json, README.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from facellm.models.nano import clip_onnx
from facellm.models.nano.deltas import Deltas
from facellm.models.nano.gguf_files import ATTRIBUTION

Json = dict[str, Any]

ARCHITECTURE = "FaceLLMNanoForConditionalGeneration"
#: Epsilon of the projector's RMS norm: llama.cpp's nemotron_v2_vl graph has it built in.
PROJECTOR_EPS = 1e-6


def config_json(fields: Mapping[str, Any], deltas: Deltas) -> Json:
    """``fields``: metadata of SmolLM2's GGUF."""
    return {
        "architectures": [ARCHITECTURE],
        "model_type": "facellm_nano",
        "dtype": "float32",
        "text_config": _text(fields),
        "vision_config": _vision(),
        "vision_feature_layer": -1,  # the tower is stored up to the block whose output is read
        "downsample_ratio": 0.5,
        "projector_hidden_act": "relu2",
        "projector_norm_eps": PROJECTOR_EPS,
        "image_seq_length": (clip_onnx.IMAGE_SIZE // clip_onnx.PATCH_SIZE // 2) ** 2,
        "tie_word_embeddings": True,
        "facellm": {
            "version": deltas.version, "trained": deltas.trained, "choice_temperature": deltas.choice_temperature,
            "attribution": ATTRIBUTION,
        },
    }  # fmt: skip


def _text(fields: Mapping[str, Any]) -> Json:
    def whole(name: str) -> int:
        return int(fields[f"llama.{name}"])

    heads, width = whole("attention.head_count"), whole("embedding_length")
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float32", "hidden_act": "silu",
        "num_hidden_layers": whole("block_count"), "hidden_size": width,
        "intermediate_size": whole("feed_forward_length"), "num_attention_heads": heads,
        "num_key_value_heads": whole("attention.head_count_kv"), "head_dim": width // heads,
        "max_position_embeddings": whole("context_length"), "vocab_size": whole("vocab_size"),
        "rms_norm_eps": _short(fields["llama.attention.layer_norm_rms_epsilon"]),
        "rope_theta": _short(fields["llama.rope.freq_base"]),
        "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True, **token_ids(fields),
    }  # fmt: skip


def token_ids(fields: Mapping[str, Any]) -> Json:
    """Of tokens with a role, as config.json calls them."""
    names = {"bos": "bos", "eos": "eos", "pad": "padding"}
    return {f"{role}_token_id": int(fields[f"tokenizer.ggml.{name}_token_id"]) for role, name in names.items()}


def _short(value: float) -> float:
    """1e-05 for the float32 9.99999974738e-06."""
    return float(str(np.float32(value)))


def _vision() -> Json:
    return {
        "model_type": "clip_vision_model", "dtype": "float32", "hidden_act": "quick_gelu",
        "hidden_size": clip_onnx.WIDTH, "intermediate_size": clip_onnx.MLP_WIDTH,
        "num_hidden_layers": clip_onnx.BLOCKS, "num_attention_heads": clip_onnx.HEADS,
        "image_size": clip_onnx.IMAGE_SIZE, "patch_size": clip_onnx.PATCH_SIZE,
        "layer_norm_eps": clip_onnx.LAYER_NORM_EPS,
    }  # fmt: skip


def preprocessor_json() -> Json:
    """A picture is one tile: RGB, 224×224 px, CLIP's mean and deviation."""
    side = clip_onnx.IMAGE_SIZE
    return {
        "image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True,
        "do_resize": True, "size": {"shortest_edge": side}, "resample": 3,
        "do_center_crop": True, "crop_size": {"height": side, "width": side},
        "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": list(clip_onnx.IMAGE_MEAN), "image_std": list(clip_onnx.IMAGE_STD),
    }  # fmt: skip


def readme(deltas: Deltas) -> str:
    """With a head that the hub and ``facellm convert`` read."""
    return f"""---
license: [apache-2.0, mit]
base_model: [HuggingFaceTB/SmolLM2-135M-Instruct, openai/clip-vit-base-patch16]
datasets: [HuggingFaceM4/FairFace]
pipeline_tag: image-text-to-text
---
# FaceLLM-nano, version {deltas.version}

CLIP ViT-B/16 (11 blocks) → 2×2 pixel shuffle → RMS norm, linear, squared ReLU, linear → SmolLM2-135M-Instruct, with
what training changed merged in; float32. One picture is one face crop of 224×224 px and becomes 49 tokens at the head
of the first user turn; no text stands around it. A token's parts are in the order row, column, channel of its patches.

Trained: {deltas.trained or "not stated"}. Measurements, uses and limits: FaceLLM's `docs/nano-model-card.md`.

The base weights come from redistributions with 8 and 4 bits, so they are not OpenAI's and Hugging Face's own numbers.

{ATTRIBUTION}
"""
