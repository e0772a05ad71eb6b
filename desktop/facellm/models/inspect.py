"""What a GGUF file is, from its header alone: kind, sizes, quantisation, origin, and which files beside it fit."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from facellm.models.gguf_header import Contents, HeaderError, TensorEntry, read_contents, read_header

LANGUAGE, EYES, ADAPTER, PART = "language model", "image part (mmproj)", "adapter", "part of a model"

#: ``general.file_type``: llama.cpp's numbers. The tests compare it with the gguf package's.
FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4",
    40: "Q1_0",
}  # fmt: skip

SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
#: Projectors whose tokens a tile can be told from the header, and by how much a side shrinks where it does not say.
_SHRINKS = {"mlp": 1, "mlp_norm": 1, "internvl": 2, "nemotron_v2_vl": 2, "gemma3": 4}
#: Told under names of their own, or too long to tell.
_OWN = ("facellm.pair", "facellm.canary.", "facellm.vision.pos_embd_layout")
_MOST_LISTED, _LONGEST_LIST, _DIGITS = 64, 16, 6

Header = Mapping[str, Any]


def inspect(path: Path) -> dict[str, Any]:
    """What ``path`` is, ready for JSON; parts that do not apply to its kind are ``None``.

    Raises ``HeaderError`` when the file, or another one of its set, is no GGUF or not whole.
    """
    if path.is_dir():
        raise HeaderError(f"{path} is a folder.", "Give one of the .gguf files in it.")
    if not path.exists():
        raise HeaderError(f"There is no file {path}.", "Check the path.")
    contents = read_contents(path)
    shard = _shard(path, contents.metadata)
    parts = [path] if shard is None else [part for part in set_of(path) if part.is_file()]
    known = {part: contents if part == path else read_contents(part) for part in parts}
    head = _head(known, contents)
    kind, tensors = kind_of(head.metadata), [entry for part in known.values() for entry in part.tensors]
    return {
        "file": str(path),
        "kind": kind,
        "shard": shard,
        "name": _text(head.metadata, "general.name"),
        "architecture": _text(head.metadata, "general.architecture"),
        **_sizes(head.metadata, tensors, sum(part.stat().st_size for part in parts)),
        **_origin(head.metadata),
        "language": _language(head, tensors) if kind == LANGUAGE else None,
        "eyes": _eyes(head.metadata) if kind == EYES else None,
        "adapter": _adapter(head.metadata, tensors) if kind == ADAPTER else None,
        "beside": list(_beside(path, kind, head.metadata)),
    }


def misfit(language: Header, eyes: Header) -> str:
    """Why a language model and an image part do not belong together; empty where nothing speaks against it."""
    width, sees = _width(language), _number(eyes, "clip.vision.projection_dim")
    if width is not None and sees is not None and width != sees:
        return f"embeddings of {width} and of {sees} numbers"
    pairs = [header["facellm.pair"] for header in (language, eyes) if "facellm.pair" in header]
    return f"of pairs {' and '.join(map(str, pairs))}" if len(set(pairs)) > 1 else ""


def kind_of(header: Header) -> str:
    """``LANGUAGE``, ``EYES``, ``ADAPTER`` or ``PART``."""
    if header.get("general.type") == "adapter" or "adapter.type" in header:
        return ADAPTER
    architecture = header.get("general.architecture")
    if architecture is None:
        return PART
    return EYES if architecture == "clip" else LANGUAGE


def _shard(path: Path, header: Header) -> dict[str, Any] | None:
    """Which of how many files; ``None`` for a model in one file."""
    named, count = SHARD.search(path.name), _number(header, "split.count") or 0
    if count < 2:
        return None
    number = (_number(header, "split.no") or 0) + 1
    missing = [part.name for part in set_of(path) if not part.is_file()] if named else []
    return {"number": number, "of": count, "missing": missing}


def set_of(path: Path) -> list[Path]:
    """All files of a set by the name of one; the file alone where its name does not tell."""
    named = SHARD.search(path.name)
    if named is None:
        return [path]
    stem, count = path.name[: named.start()], int(named[2])
    return [path.with_name(f"{stem}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1)]


def _head(known: Mapping[Path, Contents], own: Contents) -> Contents:
    """Of a set, the file that says what the model is: the first; else the one that was asked for."""
    return next((part for part in known.values() if "general.architecture" in part.metadata), own)


def _sizes(header: Header, tensors: list[TensorEntry], stored: int) -> dict[str, Any]:
    numbers: dict[str, int] = {}
    held: dict[str, int] = {}
    for entry in tensors:
        numbers[entry.kind] = numbers.get(entry.kind, 0) + entry.numbers
        held[entry.kind] = held.get(entry.kind, 0) + entry.stored_bytes
    whole = sum(numbers.values())
    file_type = _number(header, "general.file_type")
    return {
        "parameters": whole,
        "bytes": stored,
        "bits_a_weight": _rounded(8 * sum(held.values()) / whole) if whole else None,
        "file_type": None if file_type is None else FILE_TYPES.get(file_type, f"type {file_type}"),
        "weights": [
            {"kind": kind, "numbers": count, "share": _rounded(count / max(1, whole)), "bytes": held[kind]}
            for kind, count in sorted(numbers.items(), key=lambda item: -item[1])
        ],
    }


def _origin(header: Header) -> dict[str, Any]:
    own = {key.removeprefix("facellm."): _plain(value) for key, value in header.items() if _is_provenance(key, value)}
    return {
        "licence": _text(header, "general.license"),
        "attribution": _text(header, "general.attribution"),
        "base_models": _listed(header, "general.base_model"),
        "datasets": _listed(header, "general.dataset"),
        "provenance": own,
        "pair": _text(header, "facellm.pair"),
    }


def _is_provenance(key: str, value: object) -> bool:
    short = not isinstance(value, list) or len(value) <= _LONGEST_LIST
    return key.startswith("facellm.") and not key.startswith(_OWN) and short


def _listed(header: Header, start: str) -> list[dict[str, str]]:
    """``general.base_model.0.name`` and its like, an object for each number."""
    found: list[dict[str, str]] = []
    for number in range(min(_number(header, f"{start}.count") or 0, _MOST_LISTED)):
        fields = {
            "name": _text(header, f"{start}.{number}.name"),
            "organization": _text(header, f"{start}.{number}.organization"),
            "version": _text(header, f"{start}.{number}.version"),
            "url": _text(header, f"{start}.{number}.repo_url") or _text(header, f"{start}.{number}.url"),
        }
        found.append({key: value for key, value in fields.items() if value})
    return found


def _language(head: Contents, tensors: list[TensorEntry]) -> dict[str, Any]:
    header, kind = head.metadata, head.metadata.get("general.architecture")
    tokens = head.lengths.get("tokenizer.ggml.tokens")
    table = next((entry.shape[1] for entry in tensors if _is_table(entry)), None)
    return {
        "context": _number(header, f"{kind}.context_length"),
        "layers": _number(header, f"{kind}.block_count"),
        "width": _width(header),
        "vocabulary": tokens or _number(header, f"{kind}.vocab_size") or table,
        "tokenizer": _text(header, "tokenizer.ggml.model"),
        "pre_tokenizer": _text(header, "tokenizer.ggml.pre"),
        "chat_template": _text(header, "tokenizer.chat_template"),
    }


def _is_table(entry: TensorEntry) -> bool:
    return entry.name == "token_embd.weight" and len(entry.shape) == 2


def _eyes(header: Header) -> dict[str, Any]:
    side, patch = _number(header, "clip.vision.image_size"), _number(header, "clip.vision.patch_size")
    projector = _text(header, "clip.projector_type") or _text(header, "clip.vision.projector_type")
    picture = _text(header, "facellm.canary.picture")
    stored = "facellm.canary.embedding" in header
    return {
        "projector": projector,
        "tile": side,
        "patch": patch,
        "tokens": _tokens(header, projector, side, patch),
        "mean": _plain(header.get("clip.vision.image_mean")),
        "std": _plain(header.get("clip.vision.image_std")),
        "layers": _number(header, "clip.vision.block_count"),
        "width": _number(header, "clip.vision.embedding_length"),
        "gives_width": _number(header, "clip.vision.projection_dim"),
        "position_layout": _text(header, "facellm.vision.pos_embd_layout"),
        "canary": {"picture": picture, "tokens": _number(header, "facellm.canary.tokens")} if stored else None,
    }


def _tokens(header: Header, projector: str | None, side: int | None, patch: int | None) -> int | None:
    """Tokens that one tile becomes; ``None`` where it depends on the picture or the projector is not known here."""
    shrinks = _SHRINKS.get(projector or "")
    if shrinks is None or not side or not patch:
        return None
    if shrinks > 1:
        shrinks = _number(header, "clip.vision.projector.scale_factor") or shrinks
    return int((side // patch) ** 2 // shrinks**2)


def _adapter(header: Header, tensors: list[TensorEntry]) -> dict[str, Any]:
    lower = [entry for entry in tensors if entry.name.endswith(".lora_a") and len(entry.shape) == 2]
    return {
        "kind": _text(header, "adapter.type"),
        "alpha": _plain(header.get("adapter.lora.alpha")),
        "ranks": sorted({entry.shape[1] for entry in lower}),
        "matrices": len(lower),
    }


def _beside(path: Path, kind: str, header: Header) -> Iterator[dict[str, Any]]:
    """Of a language model the image parts in its folder, and the other way round, each with what is against it."""
    if kind not in (LANGUAGE, EYES):
        return
    wanted = EYES if kind == LANGUAGE else LANGUAGE
    for file in sorted(path.parent.glob("*.gguf")):
        named = SHARD.search(file.name)
        if file.resolve() == path.resolve() or (named and int(named[1]) > 1):
            continue
        try:
            if kind_of(read_header(file, until="general.type")) != wanted:
                continue
            other = read_contents(file).metadata
        except HeaderError as error:
            yield {"file": file.name, "fits": False, "why": str(error)}
            continue
        language, eyes = (header, other) if kind == LANGUAGE else (other, header)
        against = misfit(language, eyes)
        yield {"file": file.name, "fits": not against, "why": against or _reason(language, eyes)}


def _reason(language: Header, eyes: Header) -> str:
    if "facellm.pair" in language and "facellm.pair" in eyes:
        return "of the same pair"
    width = _width(language)
    if width is None or _number(eyes, "clip.vision.projection_dim") is None:
        return "nothing speaks against it; the widths are not stated"
    return f"embeddings of {width} numbers; no pair id says more"


def _width(language: Header) -> int | None:
    return _number(language, f"{language.get('general.architecture')}.embedding_length")


def _number(header: Header, key: str) -> int | None:
    """A whole number; ``None`` where it is absent or something else."""
    value = header.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _text(header: Header, key: str) -> str | None:
    value = header.get(key)
    return value if isinstance(value, str) and value else None


def _plain(value: Any) -> Any:
    """As JSON takes it: float32's last digits are noise, and no number is infinite."""
    if isinstance(value, list):
        return [_plain(each) for each in value[:_LONGEST_LIST]]
    return _rounded(value) if isinstance(value, float) else value


def _rounded(value: float) -> float | None:
    return round(value, _DIGITS) if math.isfinite(value) else None
