"""Reads conversations about pictures: our own files, and LLaMA-Factory's with or without its dataset_info.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facellm.core.errors import FaceLLMError

IMAGE = "<image>"
_KEYS = {"messages", "images", "system", "tools", "videos", "audios", "chosen", "rejected", "kto_tag"}
_ALPACA = {"prompt", "query", "response", "history"}
#: LLaMA-Factory's defaults for the kind "sharegpt", and OpenAI's names, which our own files have.
_SHAREGPT = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt",
             "system_tag": "system"}  # fmt: skip
_OPENAI = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
           "system_tag": "system"}  # fmt: skip


class DataError(FaceLLMError):
    """Conversations or pictures that cannot be used."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """``messages``: (role, text) with roles system, user, assistant; the pictures stand as ``<image>`` in the texts.
    ``choices`` and ``answer``: of a closed question, else empty."""

    id: str
    images: tuple[Path, ...]
    messages: tuple[tuple[str, str], ...]
    aspect: str = ""
    format: str = ""
    choices: tuple[str, ...] = ()
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a file's conversations, pictures and roles stand."""

    alpaca: bool
    columns: dict[str, str]
    tags: dict[str, str]


@dataclass(frozen=True, slots=True)
class Found:
    """``faulty``: what was left out and why, one sentence each. ``digest``: SHA-256 of the file."""

    conversations: list[Conversation]
    faulty: list[str]
    digest: str


def read_conversations(path: Path, name: str = "") -> Found:
    """All conversations of a file or folder; see ``recipe.Data``. Faulty ones are listed, not raised.

    Raises ``DataError`` where nothing can be read: no such file, broken JSON, a description that names no pictures.
    """
    file, layout = locate(path, name)
    conversations, faulty = [], []
    for number, row in enumerate(_rows(file), 1):
        try:
            conversations.append(_conversation(row, layout, file.parent, number))
        except DataError as error:
            faulty.append(str(error))
    if not conversations and not faulty:
        raise DataError(f"{file} holds no conversations.")
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return Found(conversations, faulty, digest)


def write_conversations(path: Path, conversations: Sequence[Conversation]) -> None:
    """As JSON lines that ``read_conversations`` reads; pictures by their whole path, for they stay where they are."""
    rows = [
        {"id": one.id, "images": [str(image.absolute()) for image in one.images],
         "messages": [{"role": role, "content": text} for role, text in one.messages], "aspect": one.aspect,
         "format": one.format, "choices": list(one.choices), "answer": one.answer}
        for one in conversations
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def locate(path: Path, name: str = "") -> tuple[Path, Layout | None]:
    """The file, and its layout where a description says it. Raises ``DataError`` where there is none."""
    if path.is_file():
        return path, None
    if not path.is_dir():
        raise DataError(f"There are no conversations at {path}.", "data.path is a file, or a folder that holds one.")
    own = path / "conversations.jsonl"
    if own.is_file() and not name:
        return own, None
    described = path / "dataset_info.json"
    if not described.is_file():
        raise DataError(f"{path} has neither conversations.jsonl nor dataset_info.json.")
    about = _json(described.read_text("utf-8"), described)
    names = sorted(about) if isinstance(about, dict) else []
    if not name and len(names) == 1:
        name = names[0]
    if name not in names:
        raise DataError(f"dataset_info.json has no dataset {name!r}; it has {', '.join(names)}.", "Set data.name.")
    return path / str(about[name].get("file_name", "")), _described(name, about[name])


def _described(name: str, about: dict[str, Any]) -> Layout:
    columns = dict(about.get("columns") or {})
    foreign = sorted(set(columns) - _KEYS - _ALPACA)
    if foreign:
        raise DataError(
            f"dataset_info.json, {name}: the columns have {', '.join(foreign)}, which is not read"
            + (
                ": pictures are under the key images, and would be left out of training." if "image" in foreign else "."
            ),
            'Write "images": "the name of the pictures\' column".' if "image" in foreign else "",
        )
    alpaca = about.get("formatting", "alpaca") == "alpaca"
    return Layout(alpaca, columns, _SHAREGPT | dict(about.get("tags") or {}))


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8: {error}.") from error
    if text.lstrip().startswith("["):
        yield from _json(text, file)
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield _json(line, f"{file}, line {number},")


def _json(text: str, where: object) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{where} is not valid JSON: {error}.") from error


def _conversation(row: Any, layout: Layout | None, folder: Path, number: int) -> Conversation:
    if not isinstance(row, dict):
        raise DataError(f"Conversation {number} is not an object.")
    where = f"Conversation {row.get('id', number)}"
    layout = layout or _guessed(row)
    messages = _alpaca(row, layout) if layout.alpaca else _messages(row, layout, where)
    images = row.get(layout.columns.get("images", "images")) or []
    if isinstance(images, str):
        images = [images]
    if not images and row.get("image"):
        raise DataError(f'{where} has its picture under "image"; the key is "images", a list.')
    _check(messages, len(images), where)
    closed = tuple(str(choice) for choice in row.get("choices") or ())
    return Conversation(
        str(row.get("id", number)), tuple(_picture(folder, str(image), where) for image in images), messages,
        str(row.get("aspect", "")), str(row.get("format", "")), closed, str(row.get("answer", "")) if closed else "",
    )  # fmt: skip


def _guessed(row: dict[str, Any]) -> Layout:
    if "messages" in row:
        return Layout(False, {"messages": "messages"}, _OPENAI)
    if "conversations" in row:
        return Layout(False, {"messages": "conversations"}, _SHAREGPT)
    return Layout(True, {}, {})


def _alpaca(row: dict[str, Any], layout: Layout) -> tuple[tuple[str, str], ...]:
    keys = {"prompt": "instruction", "query": "input", "response": "output", "system": "system", "history": "history"}
    value = {key: row.get(layout.columns.get(key, default)) for key, default in keys.items()}
    asked = "\n".join(str(text) for text in (value["prompt"], value["query"]) if text)
    turns = [*(value["history"] or []), (asked, value["response"] or "")]
    said = [("system", str(value["system"]))] if value["system"] else []
    for question, answer in turns:
        said += [("user", str(question)), ("assistant", str(answer))]
    return tuple(said)


def _messages(row: dict[str, Any], layout: Layout, where: str) -> tuple[tuple[str, str], ...]:
    tags = layout.tags
    roles = {tags[f"{role}_tag"]: role for role in ("user", "assistant", "system")}
    said = []
    system = row.get(layout.columns.get("system", "system"))
    if system:
        said.append(("system", str(system)))
    column = layout.columns.get("messages", "conversations")
    for message in row.get(column) or ():
        if not isinstance(message, dict) or message.get(tags["role_tag"]) not in roles:
            raise DataError(f"{where} has a message that is by none of {', '.join(roles)}: {str(message)[:80]}")
        said.append((roles[message[tags["role_tag"]]], str(message.get(tags["content_tag"], ""))))
    if not said:
        raise DataError(f'{where} has no messages under "{column}".')
    return tuple(said)


def _check(messages: tuple[tuple[str, str], ...], images: int, where: str) -> None:
    spoken = [role for role, _ in messages if role != "system"]
    if spoken != ["user", "assistant"] * (len(spoken) // 2) or not spoken:
        raise DataError(f"{where} does not go user, assistant, user, assistant: {', '.join(spoken)}.")
    if not all(text.strip() for role, text in messages if role == "assistant"):
        raise DataError(f"{where} has an empty answer.")
    marks = sum(text.count(IMAGE) for role, text in messages if role == "user")
    if sum(text.count(IMAGE) for _, text in messages) != marks:
        raise DataError(f"{where} has {IMAGE} outside a question.")
    if not images:
        raise DataError(f"{where} has no picture.", "Every conversation needs one: this trains on pictures.")
    if not marks:
        raise DataError(f"{where} has {images} pictures and no {IMAGE} in its question: they would not be seen.")
    if marks != images:
        raise DataError(f"{where} has {images} pictures and {marks} times {IMAGE}.")


def _picture(folder: Path, name: str, where: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise DataError(f"{where}: the picture {name} is missing in {folder}.")
    return path
