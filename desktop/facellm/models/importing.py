"""What somebody wants to import: a GGUF pair, a checkpoint or a model of the hub, told from headers alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from facellm.core.errors import FaceLLMError
from facellm.core.file_names import as_file_name
from facellm.core.package import ModelPackage
from facellm.models.gguf_header import read_header
from facellm.models.hub_id import read_hub_id
from facellm.models.inspect import ADAPTER, FILE_TYPES, SHARD, Header, kind_of, misfit, set_of
from facellm.models.nano.pair import NAME as NANO
from facellm.models.packages import package_of, read_extra, sort_files

#: Kinds of the language part that a checkpoint is converted to, best first, and what each means.
QUANTS = (
    ("F16", "practically the checkpoint itself, 2 bytes a weight"),
    ("Q8_0", "next to no loss, half of F16"),
    ("Q6_K", "very small loss, two fifths of F16 to a half"),
    ("Q5_K_M", "small loss, under a half of F16"),
    ("Q4_K_M", "some loss, a third of F16 to two fifths; for little memory"),
)
EXTRA = "package.toml"
_INDEX = "model.safetensors.index.json"
_GIVE = "Give a folder, a language GGUF, or a model of the hub as owner/name."
_TOGETHER = "Put the model's two files into a folder of their own."


class ImportRefused(FaceLLMError):
    """Something that cannot be imported; nothing was changed."""


class SourceKind(Enum):
    """``PAIR`` is copied, the other two are converted."""

    PAIR = "pair"
    CHECKPOINT = "checkpoint"
    HUB = "hub"


@dataclass(frozen=True, slots=True)
class Found:
    """``name``: what its folder may be called. ``bytes``: 0 where not known. ``detail``: one line for people."""

    kind: SourceKind
    title: str
    name: str
    bytes: int
    detail: str


@dataclass(frozen=True, slots=True)
class ImportOrder:
    """``source``: as it was typed or pasted. An empty ``name`` is made from the source's.

    ``quant``, ``mmproj_quant`` and ``adapter`` (PEFT's folder) are for what is converted, ``revision`` is the hub's.
    """

    source: str
    name: str = ""
    quant: str = "Q8_0"
    mmproj_quant: str = "F16"
    adapter: str = ""
    revision: str = ""
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """A GGUF pair and all of its files: shards, image part, ``package.toml``."""

    package: ModelPackage
    files: tuple[Path, ...]
    detail: str

    @property
    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)


def recognise(text: str) -> Found:
    """What ``text`` names: a folder, a file or ``owner/name[@revision]``. Reads headers and config.json, no network.

    Whether a checkpoint's architecture is converted is for the converters to say. Raises ``ImportRefused``, or another
    ``FaceLLMError`` with a hint where a header is damaged.
    """
    path = local_path(text)
    if path is None:
        hub = read_hub_id(unquoted(text))
        assert hub is not None  # else there would have been an error
        at = "" if hub.revision == "main" else f" at {hub.revision}"
        return Found(SourceKind.HUB, hub.repo, _proposed(hub.name), 0, f"a model of the hub{at}, fetched first")
    pair = find_pair(path)
    if pair is not None:
        package = pair.package
        return Found(SourceKind.PAIR, package.title, _proposed(package.name), pair.bytes, pair.detail)
    return _checkpoint(checkpoint_folder(path))


def unquoted(text: str) -> str:
    """Without the quotes or ``file://`` that come with a path from a file manager or a shell."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1].strip()
    if text.lower().startswith("file://"):
        address = urlsplit(text)
        text = url2pathname(unquote(address.path) if address.netloc in ("", "localhost") else unquote(text[5:]))
    return text


def local_path(text: str) -> Path | None:
    """The file or folder that ``text`` names; ``None`` for a model of the hub. Raises ``ImportRefused`` for neither."""
    said = unquoted(text)
    if not said or "\0" in said:
        raise ImportRefused("Nothing is named that could be imported.", _GIVE)
    try:
        path = Path(said).expanduser()
        if path.exists():
            return path
    except (OSError, RuntimeError) as error:  # too long, not to be looked at, a user who is not known
        raise ImportRefused(f"{said} cannot be looked at: {error}.", "Check the path and its permissions.") from error
    if re.match(r"https?://", said, re.IGNORECASE):
        raise ImportRefused(f"{said} is an address.", "Give a model of the hub as owner/name.")
    if path.suffix.lower() in (".gguf", ".safetensors") or read_hub_id(said) is None:
        raise ImportRefused(f"There is no file or folder {said}.", f"Check the path. {_GIVE}")
    return None


def find_pair(path: Path) -> Pair | None:
    """The GGUF pair that a folder holds or one of its files belongs to; ``None`` where it is no GGUF at all.

    Raises ``ImportRefused`` or ``HeaderError``.
    """
    if path.is_dir():
        if not any(path.glob("*.gguf")):
            return None
        if _is_checkpoint(path):
            raise ImportRefused(
                f"{path} holds a checkpoint and GGUF files.", "Give the path of the language GGUF, or tidy it up."
            )
        return _pair_of_folder(path)
    return _pair_of_file(path) if path.suffix.lower() == ".gguf" else None


def pair_of_files(llm: Path, mmproj: Path) -> Pair:
    """The pair of these two, the first shard of a language model among them. Raises as ``find_pair`` does."""
    name = SHARD.sub("", llm.name).removesuffix(".gguf")
    return _pair(name, {llm: read_header(llm)}, {mmproj: read_header(mmproj)}, None)


def checkpoint_folder(path: Path) -> Path:
    """The folder of a checkpoint, given itself or one of its files. Raises ``ImportRefused``."""
    if path.is_dir():
        return path
    if path.suffix.lower() == ".safetensors" or path.name in ("config.json", _INDEX):
        return path.parent
    raise ImportRefused(f"{path.name} is no model that can be imported.", _GIVE)


def _pair_of_folder(folder: Path) -> Pair:
    languages, eyes = _sorted(folder)
    if len(languages) != 1 or len(eyes) != 1:
        raise ImportRefused(
            f"{folder} must hold one language GGUF and one mmproj GGUF; it holds {len(languages)} and {len(eyes)}.",
            _TOGETHER if len(languages) < 2 else "Give the path of the language GGUF that is meant.",
        )
    return _pair(folder.resolve().name, languages, eyes, folder / EXTRA)


def _pair_of_file(file: Path) -> Pair:
    """Of a language GGUF with its image part beside it, or the other way round."""
    file = set_of(file)[0]
    languages, eyes = _sorted(file.parent)
    if not file.is_file():
        raise ImportRefused(f"{file.name}, the first shard, is missing.", "Fetch or copy all of its shards.")
    extra = file.parent / EXTRA if len(languages) == len(eyes) == 1 else None  # else it may be another model's
    given = next((one for one in (*languages, *eyes) if one.samefile(file)), None)
    if given is None:
        raise ImportRefused(f"{file.name} is a LoRA adapter.", "Import the model that it belongs to.")
    if given in eyes:
        fitting = {one: header for one, header in languages.items() if not misfit(header, eyes[given])}
        if len(fitting) != 1:
            raise ImportRefused(
                f"{file.name} is the image part of a model.", "Choose the language model's GGUF; it must lie beside it."
            )
        return _pair(next(iter(fitting)).stem, fitting, {given: eyes[given]}, extra)
    pair = languages[given].get("facellm.pair")
    if len(eyes) > 1:
        eyes = {one: header for one, header in eyes.items() if pair and header.get("facellm.pair") == pair}
    if len(eyes) != 1:
        raise ImportRefused(
            f"Beside {file.name} there must be exactly one image part (mmproj GGUF) that belongs to it.", _TOGETHER
        )
    return _pair(SHARD.sub("", given.name).removesuffix(".gguf"), {given: languages[given]}, eyes, extra)


def _sorted(folder: Path) -> tuple[dict[Path, Header], dict[Path, Header]]:
    """Language models and image parts by path, each with its header; adapters are neither."""
    languages, eyes = sort_files(folder)
    return {file: header for file, header in languages.items() if kind_of(header) != ADAPTER}, dict(eyes)


def _pair(name: str, languages: Mapping[Path, Header], eyes: Mapping[Path, Header], extra: Path | None) -> Pair:
    (llm, about), (mmproj, sees) = *languages.items(), *eyes.items()
    against = misfit(about, sees)
    if against:
        raise ImportRefused(
            f"{llm.name} and {mmproj.name} do not belong together: {against}.", "Use the two files of one model."
        )
    shards = set_of(llm)
    missing = [part.name for part in shards if not part.is_file()]
    if missing:
        raise ImportRefused(
            f"Of {len(shards)} shards {len(missing)} are missing: {_some(missing)}.", "Fetch or copy all of them."
        )
    package = package_of(name, {llm: dict(about)}, {mmproj: dict(sees)}, read_extra(extra) if extra else {})
    more = f" in {len(shards)} shards" if len(shards) > 1 else ""
    detail = f"language model{_quant(about)}{more} and its image part{_quant(sees)}"
    files = (*shards, mmproj, *([extra] if extra and extra.is_file() else []))
    return Pair(package, files, detail)


def _quant(header: Header) -> str:
    name = FILE_TYPES.get(header.get("general.file_type", -1))
    return f" {name}" if name else ""


def _checkpoint(folder: Path) -> Found:
    weights = sorted(folder.glob("*.safetensors"))
    _check_checkpoint(folder, weights)
    config = _json(folder / "config.json")
    named = config.get("architectures")
    architecture = str(named[0] if isinstance(named, list) and named else config.get("model_type") or "unnamed")
    if (folder / _INDEX).is_file():
        wanted = _json(folder / _INDEX).get("weight_map")
        names = sorted({str(name) for name in wanted.values()}) if isinstance(wanted, dict) else []
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise ImportRefused(
                f"Of {len(names)} shards {len(missing)} are missing: {_some(missing)}.", "Fetch or copy all of them."
            )
        weights = [folder / name for name in names]
    shards = f"{len(weights)} shards" if len(weights) > 1 else "one file"
    size, name = sum(file.stat().st_size for file in weights), _checkpoint_name(folder.resolve())
    return Found(SourceKind.CHECKPOINT, name, _proposed(name), size, f"{architecture}, {shards}")


def _check_checkpoint(folder: Path, weights: list[Path]) -> None:
    """Raise ``ImportRefused`` where the folder is not a checkpoint, and say what it is instead."""
    if _is_checkpoint(folder):
        return
    if (folder / "adapter_config.json").is_file():
        raise ImportRefused(
            f"{folder} holds a LoRA adapter, not a model.", "Import the model that it was made for, and give it there."
        )
    if weights:
        raise ImportRefused(f"{folder} has weights but no config.json.", "Fetch or copy the whole checkpoint.")
    if (folder / "config.json").is_file():
        raise ImportRefused(
            f"{folder} has a config.json but no safetensors.", "Save it as safetensors; pickles are not read."
        )
    raise ImportRefused(f"{folder} holds neither GGUF files nor a checkpoint.", _GIVE)


def _is_checkpoint(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def _checkpoint_name(folder: Path) -> str:
    """The folder's; of a snapshot in the hub's cache, whose folder is a commit, the model's."""
    model = folder.parents[1].name if folder.parent.name == "snapshots" else ""
    return model.rpartition("--")[2] if model.startswith("models--") else folder.name


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ImportRefused(f"{path} cannot be read: {error}.", "Fetch or copy it again.") from error
    if not isinstance(found, dict):
        raise ImportRefused(f"{path} holds no object.", "Fetch or copy it again.")
    return found


def _proposed(name: str) -> str:
    """A name that a folder may have, and that is not the embedded model's."""
    found = as_file_name(name) or "model"
    return f"{found}-copy" if found.lower() == NANO else found


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
