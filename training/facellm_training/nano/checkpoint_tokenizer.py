"""SmolLM2's tokenizer as transformers' files, from the metadata of its GGUF."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gguf import TokenType

from facellm.core.errors import ModelPartError
from facellm_training.nano.checkpoint_files import token_ids

Json = dict[str, Any]

#: How llama.cpp's "smollm" splits text, as tokenizer.json says it: digits alone, then GPT-2's expression on bytes.
_STEPS = (
    {"type": "Digits", "individual_digits": True},
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
)


def tokenizer_files(fields: Mapping[str, Any]) -> dict[str, Json]:
    """tokenizer.json, tokenizer_config.json and generation_config.json. ``fields``: metadata of the GGUF.

    Raises ``ModelPartError`` for a tokenizer of another kind.
    """
    kind = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
    if kind != ("gpt2", "smollm"):
        raise ModelPartError(f"The language model's tokenizer is of the kind {kind}, not SmolLM2's.")
    tokens, roles = (
        fields["tokenizer.ggml.tokens"],
        token_ids(fields) | {"unk_token_id": int(fields["tokenizer.ggml.unknown_token_id"])},
    )
    special = {role.removesuffix("_id"): tokens[index] for role, index in roles.items()}
    return {
        "tokenizer.json": _tokenizer(fields, tokens),
        "tokenizer_config.json": special | {
            "tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": False,
            "clean_up_tokenization_spaces": False, "model_max_length": int(fields["llama.context_length"]),
        },
        "generation_config.json": token_ids(fields) | {"do_sample": False},
    }  # fmt: skip


def _tokenizer(fields: Mapping[str, Any], tokens: list[str]) -> Json:
    types = fields["tokenizer.ggml.token_type"]
    added = [
        {
            "id": index, "content": tokens[index], "special": types[index] == TokenType.CONTROL,
            "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
        }
        for index in range(len(tokens)) if types[index] in (TokenType.CONTROL, TokenType.USER_DEFINED)
    ]  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": list(_STEPS)},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in fields["tokenizer.ggml.merges"]],
        },
    }  # fmt: skip
