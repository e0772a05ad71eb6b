"""How text is split before pieces are merged: llama.cpp has each way built in under a name, by which it is asked for.

The regular expressions themselves are not in a GGUF file, so a way that llama.cpp does not have cannot be written.
The ways recognised are those of llama.cpp's ``llm_tokenizer_bpe``, compared by their whole structure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from facellm_converters.errors import Unsupported

Step = Mapping[str, Any]

_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PATTERNS = {
    _QWEN2: "qwen2",
    # As Qwen2's, but up to three digits together.
    _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|"): "llama-bpe",
}

#: How Qwen2Tokenizer splits, as tokenizer.json says it.
QWEN2_STEPS: tuple[Step, ...] = (
    {"type": "Split", "pattern": {"Regex": _QWEN2}, "behavior": "Isolated", "invert": False},
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
)

_SPACE = "▁"
_SPACES: Step = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
_PREPEND: Step = {"type": "Prepend", "prepend": _SPACE}


def byte_level(steps: Sequence[Step]) -> bool:
    """Are pieces made of bytes, each written as one printable character?"""
    return any(step["type"] == "ByteLevel" for step in steps)


def name_of(steps: Sequence[Step]) -> str:
    """llama.cpp's name for the pre-tokenizer ``steps`` of a byte-level BPE: "qwen2", "llama-bpe", "smollm", "gpt-2".

    Raises ``Unsupported`` with the regular expression or the structure found.
    """
    *before, last = steps
    found: str | None = None
    if last["type"] == "ByteLevel" and not last.get("add_prefix_space", True):
        if last.get("use_regex", True):
            # GPT-2's own expression, alone or after single digits.
            digits = [{"type": "Digits", "individual_digits": True}]
            found = {0: "gpt-2", 1: "smollm" if before == digits else None}.get(len(before))
        elif len(before) == 1:
            found = _split_by(before[0])
    if found is None:
        raise Unsupported(
            f"The tokenizer splits text in a way that is unknown here: {_described(steps)}.",
            "The ways of Qwen2 and Qwen3, Llama 3, SmolLM and GPT-2 are supported.",
        )
    return found


def prefixes_space(normalizer: Sequence[Step], steps: Sequence[Step]) -> bool:
    """Of a tokenizer of SentencePiece's kind: is a space put before a text?

    llama.cpp puts it before every stretch of text between special tokens, whatever that begins with: as LLaVA was
    trained, and as the normalizer of published tokenizers does. What transformers 5 makes of them ("Metaspace")
    puts none before a space, and with "first" none after a special token; llama.cpp cannot be told so, and gets
    the published way.

    Raises ``Unsupported`` with what was found.
    """
    if not steps and list(normalizer) in ([_PREPEND, _SPACES], [_SPACES]):
        return normalizer[0] == _PREPEND
    if not normalizer and len(steps) == 1:
        step = steps[0]
        if (step["type"], step.get("replacement"), step.get("split")) == ("Metaspace", _SPACE, False):
            scheme = step.get("prepend_scheme")
            if scheme in ("always", "first", "never"):
                return bool(scheme != "never")
    raise Unsupported(
        f"The tokenizer treats spaces in a way that is unknown here: {_described([*normalizer, *steps])}.",
        "The way of Llama 1 and 2, hence of LLaVA 1.5, is supported.",
    )


def check_normalizer(normalizer: Sequence[Step]) -> None:
    """Of a byte-level BPE. Qwen's NFC is let pass: llama.cpp composes nothing, the engine does.

    Raises ``Unsupported`` for any other.
    """
    if [step["type"] for step in normalizer] not in ([], ["NFC"]):
        raise Unsupported(
            f"The tokenizer changes text in a way that llama.cpp does not: {_described(normalizer)}.",
            "A tokenizer without a normalizer, or with NFC, is supported.",
        )


def _split_by(step: Step) -> str | None:
    if (step["type"], step.get("behavior"), step.get("invert")) != ("Split", "Isolated", False):
        return None
    pattern = step.get("pattern")
    return _PATTERNS.get(pattern["Regex"]) if isinstance(pattern, dict) and "Regex" in pattern else None


def _described(steps: Sequence[Step]) -> str:
    parts = []
    for step in steps:
        if step["type"] == "Split" and isinstance(step.get("pattern"), dict):
            parts.append(f"split by {' '.join(map(str, step['pattern'].values()))}")
        else:
            parts.append(json.dumps(step, ensure_ascii=False))
    return "; ".join(parts) or "nothing"
