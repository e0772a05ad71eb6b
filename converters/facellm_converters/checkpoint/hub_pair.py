"""Which files of a hub's model that is converted already make one pair, by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from facellm_converters.checkpoint.tensors import some
from facellm_converters.errors import ConversionError

_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
#: How a quantisation is written in a file's name.
_QUANT = re.compile(r"(?<![a-z0-9])(f32|f16|bf16|i?q\d_[a-z0-9]+(?:_[a-z]+)*|mxfp4)(?![a-z0-9_])", re.IGNORECASE)
_NEITHER = ("imatrix", "lora", "adapter")


@dataclass(frozen=True, slots=True)
class PairKinds:
    """The kinds that are wanted of the language part and of the image part."""

    quant: str
    mmproj_quant: str


@dataclass(frozen=True, slots=True)
class PairNames:
    """``language``: its file, or its shards in order."""

    language: tuple[str, ...]
    mmproj: str


def pick_pair(repo: str, names: Iterable[str], kinds: PairKinds) -> PairNames:
    """The pair of the wanted kinds; an image part of another kind is taken where there is none of that.

    Raises ``ConversionError`` that says what there is instead.
    """
    files = sorted(name for name in names if name.endswith(".gguf") and not any(no in name.lower() for no in _NEITHER))
    eyes = [name for name in files if "mmproj" in name.lower()]
    parts: dict[str, list[str]] = {}
    for name in files:
        if name not in eyes:
            parts.setdefault(_SHARD.sub("", name.removesuffix(".gguf")), []).append(name)
    if not parts or not eyes:
        absent = "language model" if not parts else "image part (mmproj)"
        raise ConversionError(
            f"Of {repo}'s GGUF files none is {'a' if not parts else 'an'} {absent}: {some(files)}.",
            "Use a model that sees, published with both of its files.",
        )
    wanted = [stem for stem in parts if _kind(stem) == kinds.quant.upper()]
    if not wanted and len(parts) == 1 and not _kind(next(iter(parts))):
        wanted = list(parts)
    if len(wanted) != 1:
        kept = ", ".join(sorted({_kind(stem) or stem for stem in parts}))
        said = f"no {kinds.quant}" if not wanted else f"{len(wanted)} files of {kinds.quant}"
        raise ConversionError(
            f"{repo} is converted already, and has {said}; it has: {kept}.",
            "Choose one of these." if not wanted else "Fetch the one that is meant, and give its path.",
        )
    return PairNames(tuple(parts[wanted[0]]), _eyes(repo, eyes, kinds.mmproj_quant))


def _eyes(repo: str, eyes: list[str], wanted: str) -> str:
    for kind in (wanted.upper(), "F16"):
        found = [name for name in eyes if _kind(name.removesuffix(".gguf")) == kind]
        if len(found) == 1:
            return found[0]
    if len(eyes) > 1:
        raise ConversionError(f"{repo} has several image parts: {some(eyes)}.", "Choose the kind of one of them.")
    return eyes[0]


def _kind(stem: str) -> str:
    """The last that the name tells: ``mmproj-model-Q8_0``; empty where it tells none."""
    found = _QUANT.findall(stem)
    return str(found[-1]).upper() if found else ""
