"""Small random checkpoints of every layout, made by transformers and saved as it saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from transformers import (
    CLIPVisionConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2Config,
    Qwen3Config,
)  # fmt: skip

from tests.converters.tokenizers import llama_tokenizer, qwen_tokenizer

IMAGE, PATCH = 112, 14
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def shaken(model: Any, seed: int = 1) -> Any:
    """Weights that matter, all of them: a table or a bias of zeros would hide that it is not used."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if name.endswith(".bias"):
                values.normal_(0, 0.1, generator=random)
            elif values.ndim == 1 and ("norm" in name or "lambda" in name):
                values.copy_(0.8 + 0.2 * torch.randn(values.shape, generator=random))
            elif values.ndim >= 2 and not any(part in name for part in ("cls_token", "position", "embed_tokens")):
                values.normal_(0, values[0].numel() ** -0.5, generator=random)
            else:
                values.normal_(0, 0.5, generator=random)
    return model.eval()


def internvl(
    folder: Path, language: str = "qwen2", *, dtype: Any = torch.float32, shards: str = "5GB", width: int = 64
) -> Any:
    """InternVL3 ("qwen2") or 3.5 ("qwen3") in the ``-hf`` layout, its language part ``width`` wide; returns the
    model."""
    folder.mkdir(parents=True)
    qwen_tokenizer(folder)
    size = tokens(folder)
    sizes: dict[str, Any] = {
        "hidden_size": width, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 2 * width, "vocab_size": size + 10, "max_position_embeddings": 4096, "rope_theta": 1e6,
    }  # fmt: skip
    if language == "qwen3":
        text = Qwen3Config(head_dim=32, tie_word_embeddings=False, **sizes)
    else:
        text = Qwen2Config(tie_word_embeddings=True, **sizes)
    text.architectures = ["Qwen3ForCausalLM" if language == "qwen3" else "Qwen2ForCausalLM"]
    vision = InternVLVisionConfig(
        image_size=[IMAGE, IMAGE], patch_size=[PATCH, PATCH], attention_bias=True, norm_type="layer_norm",
        use_qk_norm=False, hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=128,
    )  # fmt: skip
    vision.architectures = ["InternVisionModel"]
    config = InternVLConfig(
        vision_config=vision, text_config=text, image_token_id=token(folder, "<IMG_CONTEXT>"),
        image_seq_length=(IMAGE // PATCH // 2) ** 2, downsample_ratio=0.5, tie_word_embeddings=language == "qwen2",
    )  # fmt: skip
    config.architectures = ["InternVLForConditionalGeneration"]
    torch.manual_seed(0)
    model = shaken(InternVLForConditionalGeneration(config)).to(dtype)
    model.save_pretrained(folder, max_shard_size=shards)
    preprocessor(folder, MEAN, STD)
    return model


def chat_model(folder: Path, source: Path) -> None:
    """The same weights in OpenGVLab's own layout, its queries, keys and values joined."""
    folder.mkdir(parents=True)
    weights = load_file(source / "model.safetensors")
    found: dict[str, np.ndarray] = {}
    for name, values in weights.items():
        if ".attention.q_proj." in name:
            parts = [weights[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            found[_chat_name(name).replace(".attention.q_proj.", ".attn.qkv.")] = np.concatenate(parts)
        elif ".attention.k_proj." not in name and ".attention.v_proj." not in name:
            found[_chat_name(name)] = values
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    vision, text = config["vision_config"], config["text_config"]
    vision |= {"image_size": IMAGE, "patch_size": PATCH, "qkv_bias": True, "qk_normalization": False}
    chat = {
        "architectures": ["InternVLChatModel"], "model_type": "internvl_chat", "llm_config": text,
        "vision_config": vision, "downsample_ratio": 0.5, "ps_version": "v2", "select_layer": -1,
        "min_dynamic_patch": 1, "max_dynamic_patch": 12,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(chat))
    _copy_others(source, folder)


_CHAT = (
    ("vision_tower.embeddings.cls_token", "vision_model.embeddings.class_embedding"),
    ("vision_tower.embeddings.position_embeddings", "vision_model.embeddings.position_embedding"),
    ("vision_tower.embeddings.patch_embeddings.projection", "vision_model.embeddings.patch_embedding"),
    ("vision_tower.encoder.layer.", "vision_model.encoder.layers."),
    (".attention.projection_layer.", ".attn.proj."),
    (".layernorm_before.", ".norm1."),
    (".layernorm_after.", ".norm2."),
    (".lambda_", ".ls"),
    ("multi_modal_projector.layer_norm", "mlp1.0"),
    ("multi_modal_projector.linear_1", "mlp1.1"),
    ("multi_modal_projector.linear_2", "mlp1.3"),
)


def _chat_name(name: str) -> str:
    for theirs, own in _CHAT:
        name = name.replace(theirs, own)
    return name


def llava(folder: Path) -> Any:
    """LLaVA 1.5's layout; returns the model."""
    folder.mkdir(parents=True)
    llama_tokenizer(folder)
    size = tokens(folder)
    vision = CLIPVisionConfig(
        image_size=IMAGE, patch_size=PATCH, hidden_size=64, num_hidden_layers=5, num_attention_heads=4,
        intermediate_size=128,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=size + 10, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=128, max_position_embeddings=2048,
    )  # fmt: skip
    text.architectures = ["LlamaForCausalLM"]
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=size, image_seq_length=(IMAGE // PATCH) ** 2
    )
    config.architectures = ["LlavaForConditionalGeneration"]
    torch.manual_seed(0)
    model = shaken(LlavaForConditionalGeneration(config))
    model.save_pretrained(folder)
    preprocessor(folder, [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    return model


def nano(folder: Path, source: Path) -> None:
    """The embedded model's layout, from the ``llava`` in ``source``: patches shuffled 2×2, another projector."""
    folder.mkdir(parents=True)
    weights = load_file(source / "model.safetensors")
    random = np.random.default_rng(2)
    found = {name: values for name, values in weights.items() if "multi_modal_projector" not in name}
    for name, shape in (("norm", (4 * 64,)), ("fc1", (64, 4 * 64)), ("fc2", (64, 64))):
        scale = 0.2 if len(shape) == 1 else shape[-1] ** -0.5
        values = random.standard_normal(shape) * scale + (len(shape) == 1)
        found[f"multi_modal_projector.{name}.weight"] = values.astype(np.float32)
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    config |= {"architectures": ["FaceLLMNanoForConditionalGeneration"], "projector_hidden_act": "relu2"}
    (folder / "config.json").write_text(json.dumps(config))
    _copy_others(source, folder)


def _copy_others(source: Path, folder: Path) -> None:
    """Tokenizer, chat template, preprocessor."""
    for file in source.iterdir():
        if "token" in file.name or file.suffix == ".jinja" or file.name.startswith(("preproc", "special")):
            (folder / file.name).write_bytes(file.read_bytes())


def preprocessor(folder: Path, mean: list[float], std: list[float]) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean, "image_std": std}))


def token(folder: Path, text: str) -> int:
    """The id of an added token."""
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    return next(one["id"] for one in added if one["content"] == text)


def tokens(folder: Path) -> int:
    """How many tokens the tokenizer knows."""
    found = json.loads((folder / "tokenizer.json").read_text())
    return 1 + max(*found["model"]["vocab"].values(), *(one["id"] for one in found["added_tokens"]))
