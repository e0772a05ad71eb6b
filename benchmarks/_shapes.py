"""Checkpoints of InternVL3-1B's and 38B's exact shapes in OpenGVLab's layout, in bfloat16.

The small one has random weights; the large one is a file of 77 GB without any bytes on the disk. The tokenizer is
rebuilt from the vocabulary file that llama.cpp's sources carry; nothing is fetched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUFReader


@dataclass(frozen=True)
class Shapes:
    """Fields of ``vision_config`` and ``llm_config``. ``tied``: the head is the embedding table."""

    vision: dict[str, object]
    text: dict[str, object]
    tied: bool

    def vision_size(self, name: str) -> int:
        """A number of the image tower's."""
        return int(str(self.vision[name]))

    def text_size(self, name: str) -> int:
        """A number of the language part's."""
        return int(str(self.text[name]))


SMALL = Shapes(
    {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
        "norm_type": "layer_norm", "qkv_bias": True, "qk_normalization": False,
    },
    {
        "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
        "intermediate_size": 4864, "vocab_size": 151674,
    },
    tied=True,
)  # fmt: skip
LARGE = Shapes(
    {
        "hidden_size": 3200, "num_hidden_layers": 45, "num_attention_heads": 25, "intermediate_size": 12800,
        "norm_type": "rms_norm", "qkv_bias": False, "qk_normalization": True,
    },
    {
        "hidden_size": 5120, "num_hidden_layers": 64, "num_attention_heads": 40, "num_key_value_heads": 8,
        "intermediate_size": 27648, "vocab_size": 151674,
    },
    tied=False,
)  # fmt: skip
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


def tensors(shapes: Shapes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes."""
    width, out = shapes.vision_size("hidden_size"), shapes.text_size("hidden_size")
    yield from (
        ("vision_model.embeddings.class_embedding", (1, 1, width)),
        ("vision_model.embeddings.patch_embedding.weight", (width, 3, 14, 14)),
        ("vision_model.embeddings.patch_embedding.bias", (width,)),
        ("vision_model.embeddings.position_embedding", (1, 1025, width)),
    )
    for layer in range(shapes.vision_size("num_hidden_layers")):
        yield from _vision_layer(shapes, f"vision_model.encoder.layers.{layer}.", width)
    yield from ((f"mlp1.0.{end}", (4 * width,)) for end in ("weight", "bias"))
    yield from (("mlp1.1.weight", (out, 4 * width)), ("mlp1.1.bias", (out,)))
    yield from (("mlp1.3.weight", (out, out)), ("mlp1.3.bias", (out,)))
    yield from _language(shapes, out)


def _vision_layer(shapes: Shapes, start: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    ffn, rms = shapes.vision_size("intermediate_size"), shapes.vision["norm_type"] == "rms_norm"
    for name, rows, columns in (
        ("attn.qkv", 3 * width, width), ("attn.proj", width, width), ("mlp.fc1", ffn, width), ("mlp.fc2", width, ffn),
    ):  # fmt: skip
        yield (f"{start}{name}.weight", (rows, columns))
        if name != "attn.qkv" or shapes.vision["qkv_bias"]:
            yield (f"{start}{name}.bias", (rows,))
    for norm in ("norm1", "norm2"):
        yield from ((f"{start}{norm}.{end}", (width,)) for end in (("weight",) if rms else ("weight", "bias")))
    if shapes.vision["qk_normalization"]:
        yield from ((f"{start}attn.{letter}_norm.weight", (width,)) for letter in "qk")
    yield from ((f"{start}ls{number}", (width,)) for number in (1, 2))


def _language(shapes: Shapes, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    ffn, vocabulary = shapes.text_size("intermediate_size"), shapes.text_size("vocab_size")
    keys = width // shapes.text_size("num_attention_heads") * shapes.text_size("num_key_value_heads")
    yield ("language_model.model.embed_tokens.weight", (vocabulary, width))
    yield ("language_model.model.norm.weight", (width,))
    if not shapes.tied:
        yield ("language_model.lm_head.weight", (vocabulary, width))
    for layer in range(shapes.text_size("num_hidden_layers")):
        start = f"language_model.model.layers.{layer}."
        for name, rows in (("q", width), ("k", keys), ("v", keys)):
            yield (f"{start}self_attn.{name}_proj.weight", (rows, width))
            yield (f"{start}self_attn.{name}_proj.bias", (rows,))
        yield (f"{start}self_attn.o_proj.weight", (width, width))
        yield from ((f"{start}mlp.{name}_proj.weight", (ffn, width)) for name in ("gate", "up"))
        yield (f"{start}mlp.down_proj.weight", (width, ffn))
        yield from ((f"{start}{norm}.weight", (width,)) for norm in ("input_layernorm", "post_attention_layernorm"))


def write_checkpoint(folder: Path, vocabulary: Path, shapes: Shapes = SMALL, seed: int = 0) -> int:
    """``vocabulary``: ``models/ggml-vocab-qwen2.gguf`` of llama.cpp's sources. Returns the bytes of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    size = _write_weights(folder / "model.safetensors", shapes, seed)
    vision = shapes.vision | {
        "architectures": ["InternVisionModel"], "image_size": 448, "patch_size": 14, "layer_norm_eps": 1e-6,
        "hidden_act": "gelu",
    }  # fmt: skip
    text = shapes.text | {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "max_position_embeddings": 32768,
        "rope_theta": 1e6, "rms_norm_eps": 1e-6, "tie_word_embeddings": shapes.tied, "hidden_act": "silu",
    }  # fmt: skip
    config = {
        "architectures": ["InternVLChatModel"], "model_type": "internvl_chat", "vision_config": vision,
        "llm_config": text, "downsample_ratio": 0.5, "ps_version": "v2", "select_layer": -1,
        "tie_word_embeddings": shapes.tied,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    colours = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    (folder / "preprocessor_config.json").write_text(json.dumps(colours))
    _write_tokenizer(folder, vocabulary)
    return size


def _write_weights(path: Path, shapes: Shapes, seed: int) -> int:
    table: dict[str, object] = {}
    place = 0
    for name, shape in tensors(shapes):
        size = 2 * int(np.prod(shape))
        table[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [place, place + size]}
        place += size
    head = json.dumps(table).encode()
    head += b" " * (-len(head) % 8)
    random = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for name, shape in tensors(shapes) if shapes is SMALL else ():
            scale = np.float32(0.02 if len(shape) > 1 else 0.1)
            values = random.standard_normal(shape, np.float32) * scale + np.float32("norm" in name and len(shape) == 1)
            (values.view(np.uint32) >> 16).astype("<u2").tofile(file)
        file.truncate(8 + len(head) + place)
    return place


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
