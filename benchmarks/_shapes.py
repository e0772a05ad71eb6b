"""A checkpoint of InternVL3-1B's exact shape with random bfloat16 weights, in OpenGVLab's layout.

Its tokenizer is rebuilt from the vocabulary file that llama.cpp's sources carry; nothing is fetched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gguf import GGUFReader

VISION = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
TEXT = {
    "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
    "intermediate_size": 4864, "vocab_size": 151674,
}  # fmt: skip
_ADDED = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>",
    "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<img>", "</img>", "<IMG_CONTEXT>", "<quad>",
    "</quad>", "<ref>", "</ref>", "<box>", "</box>",
)  # fmt: skip
_PLAIN = 151643
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CHAT = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{'<|im_start|>assistant\n'}}{% endif %}"
)


def tensors() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes."""
    width, ffn = VISION["hidden_size"], VISION["intermediate_size"]
    yield from (
        ("vision_model.embeddings.class_embedding", (1, 1, width)),
        ("vision_model.embeddings.patch_embedding.weight", (width, 3, 14, 14)),
        ("vision_model.embeddings.patch_embedding.bias", (width,)),
        ("vision_model.embeddings.position_embedding", (1, 1025, width)),
    )
    for layer in range(VISION["num_hidden_layers"]):
        start = f"vision_model.encoder.layers.{layer}."
        for name, rows, columns in (
            ("attn.qkv", 3 * width, width), ("attn.proj", width, width),
            ("mlp.fc1", ffn, width), ("mlp.fc2", width, ffn),
        ):  # fmt: skip
            yield from ((f"{start}{name}.weight", (rows, columns)), (f"{start}{name}.bias", (rows,)))
        yield from ((f"{start}{norm}.{end}", (width,)) for norm in ("norm1", "norm2") for end in ("weight", "bias"))
        yield from ((f"{start}ls{number}", (width,)) for number in (1, 2))
    out = TEXT["hidden_size"]
    yield from ((f"mlp1.0.{end}", (4 * width,)) for end in ("weight", "bias"))
    yield from (("mlp1.1.weight", (out, 4 * width)), ("mlp1.1.bias", (out,)))
    yield from (("mlp1.3.weight", (out, out)), ("mlp1.3.bias", (out,)))
    yield from _language()


def _language() -> Iterator[tuple[str, tuple[int, ...]]]:
    width, ffn = TEXT["hidden_size"], TEXT["intermediate_size"]
    keys = width // TEXT["num_attention_heads"] * TEXT["num_key_value_heads"]
    yield ("language_model.model.embed_tokens.weight", (TEXT["vocab_size"], width))
    yield ("language_model.model.norm.weight", (width,))
    for layer in range(TEXT["num_hidden_layers"]):
        start = f"language_model.model.layers.{layer}."
        for name, rows in (("q", width), ("k", keys), ("v", keys)):
            yield (f"{start}self_attn.{name}_proj.weight", (rows, width))
            yield (f"{start}self_attn.{name}_proj.bias", (rows,))
        yield (f"{start}self_attn.o_proj.weight", (width, width))
        yield from ((f"{start}mlp.{name}_proj.weight", (ffn, width)) for name in ("gate", "up"))
        yield (f"{start}mlp.down_proj.weight", (width, ffn))
        yield from ((f"{start}{norm}.weight", (width,)) for norm in ("input_layernorm", "post_attention_layernorm"))


def write_checkpoint(folder: Path, vocabulary: Path, seed: int = 0) -> None:
    """``vocabulary``: ``models/ggml-vocab-qwen2.gguf`` of llama.cpp's sources. 1.9 GB."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_weights(folder / "model.safetensors", seed)
    vision = VISION | {
        "architectures": ["InternVisionModel"], "image_size": 448, "patch_size": 14, "qkv_bias": True,
        "qk_normalization": False, "norm_type": "layer_norm", "layer_norm_eps": 1e-6, "hidden_act": "gelu",
    }  # fmt: skip
    text = TEXT | {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "max_position_embeddings": 32768,
        "rope_theta": 1e6, "rms_norm_eps": 1e-6, "tie_word_embeddings": True, "hidden_act": "silu",
    }  # fmt: skip
    config = {
        "architectures": ["InternVLChatModel"], "model_type": "internvl_chat", "vision_config": vision,
        "llm_config": text, "downsample_ratio": 0.5, "ps_version": "v2", "select_layer": -1,
        "tie_word_embeddings": True,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    colours = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    (folder / "preprocessor_config.json").write_text(json.dumps(colours))
    _write_tokenizer(folder, vocabulary)


def _write_weights(path: Path, seed: int) -> None:
    table: dict[str, object] = {}
    place = 0
    for name, shape in tensors():
        size = 2 * int(np.prod(shape))
        table[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [place, place + size]}
        place += size
    head = json.dumps(table).encode()
    head += b" " * (-len(head) % 8)
    random = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for name, shape in tensors():
            scale = np.float32(0.02 if len(shape) > 1 else 0.1)
            values = random.standard_normal(shape, np.float32) * scale + np.float32("norm" in name and len(shape) == 1)
            (values.view(np.uint32) >> 16).astype("<u2").tofile(file)


def _write_tokenizer(folder: Path, vocabulary: Path) -> None:
    reader = GGUFReader(vocabulary)

    def strings(key: str) -> list[str]:
        field = reader.fields[key]
        return [bytes(field.parts[index]).decode() for index in field.data]

    words = strings("tokenizer.ggml.tokens")[:_PLAIN]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    added = [
        {
            "id": _PLAIN + number, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True,
        }
        for number, text in enumerate(_ADDED)
    ]  # fmt: skip
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "",
        "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
        "vocab": {word: number for number, word in enumerate(words)}, "merges": strings("tokenizer.ggml.merges"),
    }  # fmt: skip
    split = {"type": "Split", "pattern": {"Regex": _SPLIT}, "behavior": "Isolated", "invert": False}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]}, "post_processor": level,
        "decoder": level, "model": model,
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    settings = {
        "tokenizer_class": "Qwen2TokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "chat_template": _CHAT, "model_max_length": 32768, "add_prefix_space": False,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
