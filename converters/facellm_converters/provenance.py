"""Where a model comes from: its name, licence, base models and data, and the id that its two files share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gguf import Metadata
from yaml import YAMLError

from facellm.core.file_names import as_file_name
from facellm_converters.errors import BadCheckpoint, ConversionError
from facellm_converters.layouts.checkpoint import Checkpoint
from facellm_converters.lora.adapter import Adapter
from facellm_converters.write.fields import About

#: Part of the pair's id: raised when other bytes are written for the same checkpoint.
VERSION = "1"


def about_model(checkpoint: Checkpoint, adapter: Adapter | None, name: str, licence: str) -> About:
    """From the checkpoint's README, its configuration and the adapter's."""
    card = _card(checkpoint.folder)
    bases = _listed(card, "base_model")
    own = str(checkpoint.config.get("_name_or_path") or "")
    if own and "/" in own and not own.startswith(("/", ".")) and own not in bases:
        bases.append(own)
    own_words = _own_words(checkpoint.config)
    provenance = {"converter": f"facellm {VERSION}"} | {
        key: value for key in ("version", "trained") if isinstance(value := own_words.get(key), str) and value
    }
    if adapter is not None:
        provenance |= {f"adapter.{key}": value for key, value in adapter.provenance.items()}
    return About(
        name or checkpoint.folder.resolve().name, pair_id(checkpoint, adapter),
        licence or ", ".join(_listed(card, "license")), bases, _listed(card, "datasets"), provenance,
        str(own_words.get("attribution") or ""), _temperature(own_words),
    )  # fmt: skip


def _own_words(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What our trainer writes into config.json: version, attribution, the temperature of closed questions."""
    found = config.get("facellm")
    return found if isinstance(found, dict) else {}


def _temperature(own_words: Mapping[str, Any]) -> float | None:
    """Raises ``BadCheckpoint`` for one by which nothing can be divided."""
    found = own_words.get("choice_temperature")
    if found is None:
        return None
    if not isinstance(found, int | float) or isinstance(found, bool) or not 0 < found < float("inf"):
        raise BadCheckpoint(
            f"config.json says facellm.choice_temperature = {found!r}; a number above 0 was expected.",
            "Leave it out, or export the training again.",
        )
    return float(found)


def pair_id(checkpoint: Checkpoint, adapter: Adapter | None) -> str:
    """The same for the same checkpoint and adapter, however it is cut into files.

    Of each weight its first row counts: two fine-tunes differ there, and 76 GB need not be read for it.
    """
    digest = hashlib.sha256(f"{VERSION} {json.dumps(checkpoint.config, sort_keys=True)}".encode())
    for name, shape in sorted(checkpoint.weights.items()):
        digest.update(f"{name} {shape} {checkpoint.kind_of(name)}".encode())
        digest.update(checkpoint.read(name, 0, 1).tobytes())
    checkpoint.tensors.release()
    if adapter is not None:
        digest.update(adapter.digest.encode())
    return digest.hexdigest()[:16]


def file_name(name: str) -> str:
    """A model's name as part of a file's. Raises ``ConversionError`` when nothing is left of it."""
    found = as_file_name(name)
    if not found:
        raise ConversionError(f"A model cannot be called {name!r}.", "Give --name with letters or digits.")
    return found


def _card(folder: Path) -> Mapping[str, Any]:
    """The head of the checkpoint's README, which is not worth failing for."""
    try:
        return Metadata.load_model_card(folder)
    except (OSError, ValueError, YAMLError):
        return {}


def _listed(card: Mapping[str, Any], key: str) -> list[str]:
    value = card.get(key) or []
    return [str(one) for one in (value if isinstance(value, list) else [value])]
