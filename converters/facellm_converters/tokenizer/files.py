"""A tokenizer as it lies in a checkpoint's folder, whichever files it is spread over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facellm_converters.checkpoint.json_file import read_json
from facellm_converters.errors import BadCheckpoint, Unsupported
from facellm_converters.tokenizer.split import QWEN2_STEPS

#: Fields of tokenizer_config.json and special_tokens_map.json that name more special tokens than those with a role.
_MORE_SPECIAL = ("additional_special_tokens", "extra_special_tokens")


@dataclass(frozen=True, slots=True)
class AddedToken:
    """``text`` is found in a text before anything else is cut. ``special``: does not show in an answer."""

    text: str
    special: bool


@dataclass(frozen=True, slots=True)
class Saved:
    """``pieces``: text → id, without added tokens that are not among them. ``added``: id → token.
    ``whole``: tokenizer.json or its equal; ``config``: tokenizer_config.json; ``named``: special_tokens_map.json."""

    folder: Path
    whole: Mapping[str, Any]
    pieces: Mapping[str, int]
    merges: tuple[tuple[str, str], ...]
    added: Mapping[int, AddedToken]
    config: Mapping[str, Any]
    named: Mapping[str, Any]

    @property
    def model(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.whole["model"]
        return found

    def steps(self, part: str, inner: str) -> list[Mapping[str, Any]]:
        """The parts of "normalizer", "pre_tokenizer" or "post_processor", a sequence of them laid flat;
        ``inner``: what a sequence calls its parts. Empty where there is none."""
        return list(_flat(self.whole.get(part), inner, part))


def read_saved(folder: Path) -> Saved:
    """Raises ``BadCheckpoint`` for files that are missing or damaged, ``Unsupported`` for a kind that is not BPE."""
    config, named = _optional(folder / "tokenizer_config.json"), _optional(folder / "special_tokens_map.json")
    whole = _whole(folder, config)
    model = whole.get("model")
    if not isinstance(model, dict):
        raise BadCheckpoint("tokenizer.json has no model.", "Save the tokenizer again, or fetch it again.")
    if model.get("type") != "BPE":
        raise Unsupported(
            f"The tokenizer is of the kind {model.get('type')!r}.", "Byte-pair encoding (BPE) is supported."
        )
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise Unsupported(f"The tokenizer marks its pieces with {key} {model[key]!r}.", "llama.cpp knows no such.")
    pieces = _pieces(model.get("vocab"))
    return Saved(
        folder, whole, pieces, _merges(model.get("merges"), pieces), _added(folder, whole, config, named), config, named
    )


def _whole(folder: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
    if (folder / "tokenizer.json").is_file() or not folder.is_dir():
        return read_json(folder / "tokenizer.json")
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return _from_lists(folder, config)
    if (folder / "tokenizer.model").is_file():
        raise Unsupported(
            f"{folder.name} holds its tokenizer as tokenizer.model only, which is not read here.",
            "Save it once as tokenizer.json: AutoTokenizer.from_pretrained(folder).save_pretrained(folder).",
        )
    raise BadCheckpoint(
        f"{folder.name} holds no tokenizer.json.", "Copy the tokenizer's files beside config.json, or fetch them again."
    )


def _from_lists(folder: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """vocab.json and merges.txt, as OpenGVLab publishes Qwen2's: how text is split is known by the class alone."""
    name = config.get("tokenizer_class")
    if name not in ("Qwen2Tokenizer", "Qwen2TokenizerFast"):
        raise Unsupported(
            f"{folder.name} holds vocab.json and merges.txt of the class {name}, which do not say how text is split.",
            "Save it once as tokenizer.json: AutoTokenizer.from_pretrained(folder).save_pretrained(folder).",
        )
    try:
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise BadCheckpoint(f"merges.txt cannot be read: {error}.", "Fetch it again.") from error
    merges = [line.rstrip("\r") for line in lines if line.strip() and not line.startswith("#version")]
    return {
        "model": {"type": "BPE", "vocab": read_json(folder / "vocab.json"), "merges": merges},
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": list(QWEN2_STEPS)},
    }


def _pieces(vocabulary: Any) -> dict[str, int]:
    if not isinstance(vocabulary, dict) or not vocabulary:
        raise BadCheckpoint("The tokenizer has no vocabulary.", "Fetch it again.")
    for text, index in vocabulary.items():
        if type(index) is not int or index < 0:
            raise BadCheckpoint(f"The tokenizer gives the piece {text!r} the id {index!r}.", "Fetch it again.")
    return vocabulary


def _merges(merges: Any, pieces: Mapping[str, int]) -> tuple[tuple[str, str], ...]:
    """Written as "a b" up to transformers 4.44, as ["a", "b"] since."""
    if not isinstance(merges, list):
        raise BadCheckpoint("The tokenizer has no list of merges.", "Fetch it again.")
    pairs = []
    for merge in merges:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or list(map(type, pair)) != [str, str]:
            raise BadCheckpoint(f"The tokenizer's merge {merge!r} is no pair of pieces.", "Fetch it again.")
        left, right = pair
        if left + right not in pieces:
            raise BadCheckpoint(f"The tokenizer's merge {merge!r} makes no piece of its own.", "Fetch it again.")
        pairs.append((left, right))
    return tuple(pairs)


def _added(
    folder: Path, whole: Mapping[str, Any], config: Mapping[str, Any], named: Mapping[str, Any]
) -> dict[int, AddedToken]:
    """From tokenizer.json, then tokenizer_config.json (transformers 4), then added_tokens.json (before 4.34)."""
    found: dict[int, AddedToken] = {}
    for entry in [*_entries(whole, "added_tokens"), *_decoder(config)]:
        index, text = entry.get("id"), entry.get("content")
        if type(index) is not int or index < 0 or not isinstance(text, str) or not text:
            raise BadCheckpoint(f"The tokenizer's added token {entry!r} has no id or text.", "Fetch it again.")
        if index in found and found[index].text != text:
            raise BadCheckpoint(
                f"Token {index} is {found[index].text!r} in tokenizer.json and {text!r} in tokenizer_config.json.",
                "The files are of different checkpoints: fetch them again.",
            )
        if any(entry.get(flag) for flag in ("lstrip", "rstrip", "single_word")):
            raise Unsupported(
                f"The added token {text!r} takes the spaces beside it, or stands as a word only.",
                "llama.cpp has no such tokens: save the tokenizer without lstrip, rstrip and single_word.",
            )
        found[index] = AddedToken(text, bool(entry.get("special")))
    special = set(_special_texts(config)) | set(_special_texts(named))
    for text, index in _optional(folder / "added_tokens.json").items():
        if type(index) is not int or index < 0:
            raise BadCheckpoint(f"added_tokens.json gives {text!r} the id {index!r}.", "Fetch it again.")
        found.setdefault(index, AddedToken(text, text in special))
    return found


def _entries(holder: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    entries = holder.get(key) or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BadCheckpoint(f"The tokenizer's {key} are no list of tokens.", "Fetch it again.")
    return entries


def _decoder(config: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    table = config.get("added_tokens_decoder") or {}
    if not isinstance(table, dict):
        raise BadCheckpoint("added_tokens_decoder in tokenizer_config.json is no table.", "Fetch it again.")
    for index, entry in table.items():
        if not isinstance(entry, dict) or not index.isdecimal():
            raise BadCheckpoint(
                f"added_tokens_decoder of tokenizer_config.json holds {index!r}: {entry!r}.", "Fetch it again."
            )
        yield {**entry, "id": int(index)}


def _special_texts(holder: Mapping[str, Any]) -> Iterator[str]:
    for key, value in holder.items():
        if key.endswith("_token"):
            values = [value]
        elif key in _MORE_SPECIAL and isinstance(value, list | dict):
            values = list(value.values() if isinstance(value, dict) else value)
        else:
            continue
        yield from filter(None, map(text_of, values))


def text_of(token: Any) -> str | None:
    """A token's text, written plainly or as an object with "content"; ``None`` for anything else."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) and found else None


def _flat(part: Any, inner: str, name: str) -> Iterator[Mapping[str, Any]]:
    if part is None:
        return
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise BadCheckpoint(f"{name} of tokenizer.json is {part!r}.", "Fetch it again.")
    if part["type"] != "Sequence":
        yield part
        return
    if not isinstance(part.get(inner), list):
        raise BadCheckpoint(f"{name} of tokenizer.json is a sequence without {inner}.", "Fetch it again.")
    for step in part[inner]:
        yield from _flat(step, inner, name)


def _optional(path: Path) -> Mapping[str, Any]:
    return read_json(path) if path.is_file() else {}
