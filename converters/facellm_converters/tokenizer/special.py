"""Tokens with a role: which ones begin and end a text, which are put there, and the chat template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facellm_converters.checkpoint.json_file import read_json
from facellm_converters.errors import BadCheckpoint, Unsupported
from facellm_converters.tokenizer.files import Saved, text_of

ROLES = ("bos", "eos", "unk", "pad")

#: A template, or several by name; "default" is the one that is used.
ChatTemplate = str | list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Special:
    """``ids``: role → token. ``add_bos``, ``add_eos``: put before, after a text that is tokenized."""

    ids: Mapping[str, int]
    add_bos: bool
    add_eos: bool


def read_special(saved: Saved, size: int) -> Special:
    """The tokenizer's own word counts, then config.json's, then generation_config.json's: llama.cpp's converter
    decides so too (``gguf.SpecialVocab``), but that it does not look into the last.

    Raises ``BadCheckpoint`` where no token ends an answer: llama.cpp would take its default, token 11.
    """
    ids = {role: index for role in ROLES if (index := _id_of(role, saved, size)) is not None}
    if "eos" not in ids:
        raise BadCheckpoint(
            f"No file of {saved.folder.name} says which token ends an answer.",
            "Set eos_token in tokenizer_config.json.",
        )
    first, last = _put_around(saved)
    add_bos = first is not None or (last is None and saved.config.get("add_bos_token") is True)
    add_eos = last is not None or (first is None and saved.config.get("add_eos_token") is True)
    for role, added, text in (("bos", add_bos, first), ("eos", add_eos, last)):
        if added and role not in ids:
            raise BadCheckpoint(
                f"The tokenizer puts {text or 'a token'} around a text, and no file says which is its {role} token.",
                f"Set {role}_token in tokenizer_config.json.",
            )
        if text is not None and _lookup(text, saved) != ids[role]:
            raise Unsupported(
                f"The tokenizer puts {text!r} around a text, which is not its {role} token.",
                "llama.cpp can put there no other.",
            )
    return Special(ids, add_bos, add_eos)


def read_template(saved: Saved) -> ChatTemplate | None:
    """As transformers' processors look for it: chat_template.jinja, chat_template.json, tokenizer_config.json.

    Raises ``BadCheckpoint`` for one that is no text.
    """
    path = saved.folder / "chat_template.jinja"
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise BadCheckpoint(f"{path.name} cannot be read: {error}.", "Fetch it again.") from error
    path = saved.folder / "chat_template.json"
    found = read_json(path).get("chat_template") if path.is_file() else None
    found = saved.config.get("chat_template") if found is None else found
    if found is None or isinstance(found, str):
        return found
    if not isinstance(found, list) or not all(_is_named(entry) for entry in found):
        raise BadCheckpoint("The chat template is neither a text nor a list of named texts.", "Fetch it again.")
    return [{"name": entry["name"], "template": entry["template"]} for entry in found]


def _id_of(role: str, saved: Saved, size: int) -> int | None:
    for holder in (saved.config, saved.named):
        text = text_of(holder.get(f"{role}_token"))
        if text is not None:
            index = _lookup(text, saved)
            if index is None:
                raise BadCheckpoint(
                    f"The tokenizer's {role} token {text!r} is not in its vocabulary.", "Save the tokenizer again."
                )
            return index
    # Defaults of transformers' configuration classes may lie outside a small vocabulary.
    return next((index for index in _configured(role, saved.folder) if index < size), None)


def _configured(role: str, folder: Path) -> Iterator[int]:
    for name in ("config.json", "generation_config.json"):
        whole = read_json(folder / name) if (folder / name).is_file() else {}
        for part in (whole, whole.get("text_config"), whole.get("llm_config")):
            found = part.get(f"{role}_token_id") if isinstance(part, dict) else None
            first = found[0] if isinstance(found, list) and found else found
            if type(first) is int and first >= 0:
                yield first


def _lookup(text: str, saved: Saved) -> int | None:
    index = next((index for index, token in saved.added.items() if token.text == text), None)
    return saved.pieces.get(text) if index is None else index


def _put_around(saved: Saved) -> tuple[str | None, str | None]:
    """What the post-processor puts before and after a text."""
    for step in saved.steps("post_processor", "processors"):
        if step["type"] == "ByteLevel":  # only corrects offsets
            continue
        if step["type"] != "TemplateProcessing":
            raise Unsupported(f"The tokenizer's post-processor is a {step['type']}.", "llama.cpp knows no such.")
        texts = [_special_text(item) for item in step.get("single") or []]
        if texts.count(None) == 1 and len(texts) <= 3:
            middle = texts.index(None)
            before, after = texts[:middle], texts[middle + 1 :]
            if len(before) <= 1 and len(after) <= 1:
                return (before[0] if before else None, after[0] if after else None)
        raise Unsupported(f"The tokenizer puts {texts} around a text.", "llama.cpp puts one token there at most.")
    return None, None


def _special_text(item: Any) -> str | None:
    """``None``: here goes the text."""
    token = item.get("SpecialToken") if isinstance(item, dict) else None
    return str(token["id"]) if isinstance(token, dict) and "id" in token else None


def _is_named(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("template"), str)
