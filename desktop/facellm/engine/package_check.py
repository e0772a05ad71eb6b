"""What can be known of a model pair before it is loaded: are both files whole, do they fit, is there room."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from facellm.core.command import command
from facellm.core.package import ModelPackage
from facellm.engine.errors import BadModel, MissingProjector, OutOfMemory, WrongPair
from facellm.models.gguf_header import HeaderError, check_whole, read_header
from facellm.models.nano.pair import LANGUAGE_FILE, MMPROJ_FILE

#: Bytes that the process needs beside weights and KV state: interpreter, llama.cpp, compute buffers. Measured with
#: the nano: resident 427 MB with 303 MB of weights and a KV state of 47 MB at 2048 tokens; rounded up.
WORKSPACE = 128 << 20
#: Compute buffers grow with the model: share of the weights. Measured on InternVL3-1B shapes: 0.92 GB for 0.75 GB.
BUFFERS = 0.12

_ELSEWHERE = "It should lie in {}."


_SPLIT = re.compile(r"-00001-of-(\d{5})\.gguf$")


@dataclass(frozen=True, slots=True)
class PackageHeaders:
    """Metadata of the language model and of the mmproj, lists of strings left out."""

    language: dict[str, Any]
    eyes: dict[str, Any]


def check_files(package: ModelPackage) -> PackageHeaders:
    """Read both headers. Raises ``BadModel``, ``MissingProjector`` or ``WrongPair``; nothing is loaded for that."""
    if not package.llm.is_file():
        raise BadModel(f"The model file {package.llm.name} is missing.", _ELSEWHERE.format(package.llm.parent))
    if not package.mmproj.is_file():
        raise MissingProjector(
            f"The model has no eyes: {package.mmproj.name} is missing.", _ELSEWHERE.format(package.mmproj.parent)
        )
    headers = PackageHeaders(_header(package.llm), _header(package.mmproj))
    if headers.language.get("general.architecture") in (None, "clip"):
        raise BadModel(f"{package.llm.name} is not a language model.", "Are the package's two files swapped?")
    if headers.eyes.get("general.architecture") != "clip":
        raise BadModel(f"{package.mmproj.name} is not an mmproj file.", "Choose the model's own mmproj GGUF.")
    _check_pair(package, headers)
    return headers


def check_memory(package: ModelPackage, headers: PackageHeaders, context: int) -> None:
    """Raise ``OutOfMemory`` when weights, KV state for ``context`` tokens and buffers exceed what is free.

    For models that stay in main memory; with layers on a GPU llama.cpp itself has to judge.
    """
    weights = sum(stored_bytes(path) for path in (package.llm, package.mmproj))
    need = int(weights * (1 + BUFFERS)) + _state_bytes(headers.language, context) + WORKSPACE
    free = free_memory()
    if need > free:
        raise OutOfMemory(
            f"The model needs about {need / 2**30:.1f} GB of memory; {free / 2**30:.1f} GB are free.",
            "Close other programs, or choose a smaller model or a smaller context.",
        )


def again(path: Path) -> str:
    """What to do about a model file that is no good: ours is built, anybody else's was fetched or converted."""
    if path.name in (LANGUAGE_FILE, MMPROJ_FILE):
        return f"Run: {command('models', 'build', 'nano')}"
    return "Fetch or convert it again."


def stored_bytes(path: Path) -> int:
    """Size of a model file, with the others of its set where a model is split into several."""
    return sum(part.stat().st_size for part in _parts(path))


def free_memory() -> int:
    """Bytes that this process may still take: what the machine has free, or its container (Linux) if that is less."""
    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):  # absent, or "max"
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        free = min(free, max(0, limit - used + _reclaimable(group / "memory.stat")))
    return free


def _reclaimable(stat: Path) -> int:
    """Bytes of cached files, which the kernel counts as used but gives back."""
    lines = dict(line.split() for line in stat.read_text().splitlines())
    return int(lines["inactive_file"])


def _parts(path: Path) -> list[Path]:
    """The file, or all of a set that llama.cpp finds by the name of the first."""
    split = _SPLIT.search(path.name)
    if split is None:
        return [path]
    stem, count = path.name[: split.start()], split.group(1)
    return [path.with_name(f"{stem}-{number:05d}-of-{count}.gguf") for number in range(1, int(count) + 1)]


def _header(path: Path) -> dict[str, Any]:
    try:
        header = read_header(path)
        for part in _parts(path):
            check_whole(part)
    except FileNotFoundError as error:
        raise BadModel(f"{Path(error.filename).name} is missing.", _ELSEWHERE.format(path.parent)) from error
    except HeaderError as error:
        raise BadModel(str(error), again(path)) from error
    except OSError as error:
        raise BadModel(f"{path.name} cannot be read: {error.strerror}.", "Check the file's permissions.") from error
    return header


def _check_pair(package: ModelPackage, headers: PackageHeaders) -> None:
    names = f"{package.llm.name} and {package.mmproj.name} do not belong together"
    language, eyes = headers.language, headers.eyes
    width = language.get(f"{language['general.architecture']}.embedding_length")
    sees = eyes.get("clip.vision.projection_dim")
    if None not in (width, sees) and width != sees:
        raise WrongPair(f"{names}: embeddings of {width} and of {sees} numbers.", "Use the two files of one model.")
    pairs = [header["facellm.pair"] for header in (language, eyes) if "facellm.pair" in header]
    if len(set(pairs)) > 1:
        raise WrongPair(f"{names}: they are of pairs {' and '.join(pairs)}.", "Use the two files of one build.")


def _state_bytes(language: dict[str, Any], context: int) -> int:
    """Keys and values in float16."""
    kind = language["general.architecture"]

    def number(key: str, default: int) -> int:
        value = language.get(f"{kind}.{key}", default)
        return int(max(value) if isinstance(value, list) else value)  # some models list it per layer

    layers, width, heads = number("block_count", 0), number("embedding_length", 0), number("attention.head_count", 1)
    kv_heads = number("attention.head_count_kv", heads)
    key, value = (number(f"attention.{part}_length", width // max(1, heads)) for part in ("key", "value"))
    return 2 * layers * kv_heads * (key + value) * context
