"""Where a model comes from: its name, licence, base models and data, and the id that its two files share."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from facellm_converters.errors import ConversionError
from facellm_converters.layouts.checkpoint import Checkpoint
from facellm_converters.lora.adapter import Adapter
from facellm_converters.write.fields import About

#: Part of the pair's id: raised when other bytes are written for the same checkpoint.
VERSION = "1"

_FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*\n", re.DOTALL)


def about_model(checkpoint: Checkpoint, adapter: Adapter | None, name: str, licence: str) -> About:
    """From the checkpoint's README, its configuration and the adapter's."""
    card = read_card(checkpoint.folder / "README.md")
    bases = list(card.get("base_model", []))
    own = str(checkpoint.config.get("_name_or_path") or "")
    if own and "/" in own and not own.startswith(("/", ".")) and own not in bases:
        bases.append(own)
    provenance = {"converter": f"facellm {VERSION}"}
    if adapter is not None:
        provenance |= {f"adapter.{key}": value for key, value in adapter.provenance.items()}
    return About(
        name or checkpoint.folder.resolve().name, pair_id(checkpoint, adapter),
        licence or next(iter(card.get("license", [])), ""), bases, list(card.get("datasets", [])), provenance,
    )  # fmt: skip


def pair_id(checkpoint: Checkpoint, adapter: Adapter | None) -> str:
    """The same for the same checkpoint and adapter: of configuration, tensor tables and sizes, not of every byte."""
    digest = hashlib.sha256(f"{VERSION} {json.dumps(checkpoint.config, sort_keys=True)}".encode())
    for name, info in sorted(checkpoint.tensors.infos.items()):
        digest.update(f"{name} {info.shape} {info.kind} {info.file}".encode())
    probe = checkpoint.read("language_model.norm.weight")
    digest.update(probe.tobytes())
    if adapter is not None:
        digest.update(adapter.digest.encode())
    return digest.hexdigest()[:16]


def file_name(name: str) -> str:
    """A model's name as part of a file's. Raises ``ConversionError`` when nothing is left of it."""
    found = re.sub(r"[^A-Za-z0-9._-]+", "-", name.rsplit("/", 1)[-1]).strip("-._")
    if not found:
        raise ConversionError(f"A model cannot be called {name!r}.", "Give --name with letters or digits.")
    return found


def read_card(path: Path) -> Mapping[str, Sequence[str]]:
    """Single values and lists from the head of a model card; nothing where there is none."""
    try:
        front = _FRONT.match(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return {}
    found: dict[str, list[str]] = {}
    key = ""
    for line in front.group(1).splitlines() if front else ():
        item = re.match(r"\s*-\s+(.+)$", line)
        if item and key:
            found[key].append(item.group(1).strip().strip("'\""))
            continue
        pair = re.match(r"([A-Za-z_]+):\s*(.*)$", line)
        key = pair.group(1) if pair else ""
        if pair:
            value = pair.group(2).strip().strip("'\"")
            found[key] = (
                [value]
                if value and not value.startswith("[")
                else [part.strip().strip("'\"") for part in value.strip("[]").split(",") if part.strip()]
            )
    return found
