"""FaceXBench's public folder as items: its JSON files read as they are, prompts laid out as the original does.

Pictures first, then [the tools' description], [the task's description, in-context only], question, [what to answer],
and the options on lines "(A) …".
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from facellm.core.prompt import choice_keys
from facellm_training.evaluate.items import EvaluationError, Item, Picture

Mode: TypeAlias = Literal["zero-shot", "in-context", "chain-of-thought"]
MODES: tuple[Mode, ...] = get_args(Mode)

#: New tokens of a free answer, as FaceLLM's authors allow.
MAX_TOKENS = 500
#: The whole benchmark.
FILES, QUESTIONS = 48, 5000
#: Asked without a picture; the original passes a black one.
NO_PICTURES = "tools_use"
BLACK = np.zeros((224, 224, 3), np.uint8)
#: What replaces "provide only the correct option letter" where the model is to reason first. Our wording: the
#: original's is not published.
THINK = "Think step by step about what the images show, then end with the letter of the correct option in parentheses."

#: Data sets by name whose pictures the benchmark took from parts that models are trained on: FairFace validation (the
#: original FaceLLM), RAF-DB train.
OVERLAP = frozenset({"fairface", "rafdb"})


@dataclass(frozen=True, slots=True)
class Benchmark:
    """``files``: how many JSON files were read; ``skipped``: item id → why it cannot be asked."""

    items: tuple[Item, ...]
    files: int
    skipped: dict[str, str]


def read_facexbench(root: Path, mode: Mode = "zero-shot", max_tokens: int = MAX_TOKENS) -> Benchmark:
    """All questions below ``root`` (the repository's folder, or its ``benchmark/``).

    Raises ``EvaluationError`` where there are none, or a file is no JSON: a score without it would mislead.
    """
    if mode not in MODES:
        raise EvaluationError(f"There is no mode {mode}.", f"Choose one of: {', '.join(MODES)}.")
    base = root / "benchmark" if (root / "benchmark").is_dir() else root
    items: list[Item] = []
    skipped: dict[str, str] = {}
    count = 0
    for path in sorted(base.rglob("*.json")):
        found = _read(path)
        if found is None:
            continue
        count += 1
        for item, reason in _questions(path, found, base, mode, max_tokens):
            if isinstance(item, Item):
                items.append(item)
            else:
                skipped[item] = reason
    if not count:
        raise EvaluationError(
            f"{root} holds no question files of FaceXBench.", "Give the folder that has benchmark/*.json in it."
        )
    return Benchmark(tuple(items), count, skipped)


def prompt_of(found: dict[str, Any], question: str, options: tuple[str, ...], mode: Mode) -> str:
    """The user's turn after the pictures."""
    parts = [str(found.get("context") or "")] if found.get("category") == NO_PICTURES else []
    if mode == "in-context":
        parts.append(str(found.get("prepend_text") or ""))
    parts.append(question)
    parts.append(THINK if mode == "chain-of-thought" else str(found.get("postpend_text") or ""))
    lines = [f"({letter}) {option}" for letter, option in zip(string.ascii_uppercase, options, strict=False)]
    return "\n".join([*filter(None, parts), *lines])


def _read(path: Path) -> dict[str, Any] | None:
    """``None`` for a JSON file that is something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path} cannot be read: {error}.", "Fetch it again: a score needs it.") from error
    return found if isinstance(found, dict) and isinstance(found.get("questions"), dict) else None


def _questions(
    path: Path, found: dict[str, Any], base: Path, mode: Mode, max_tokens: int
) -> Iterator[tuple[Item | str, str]]:
    """Items, or (id, reason) for questions that cannot be asked."""
    folder = path.relative_to(base).with_suffix("").as_posix()
    for number, row in found["questions"].items():
        name = f"{folder}:{number}"
        try:
            yield _item(name, found, row, base, mode, max_tokens), ""
        except (KeyError, TypeError, AttributeError) as error:
            yield name, f"incomplete question: {type(error).__name__} {error}"
        except ValueError as error:
            yield name, str(error)


def _item(name: str, found: dict[str, Any], row: dict[str, Any], base: Path, mode: Mode, max_tokens: int) -> Item:
    options = tuple(str(option) for option in row["options"])
    # The letters are what the model chooses among; options may repeat each other, which letters do not.
    keys = choice_keys(tuple(string.ascii_uppercase[: len(options)]))
    letter = row["correct_answer_option"]
    if letter not in keys:
        raise ValueError(f"unknown option letter {letter!r}; the options are {', '.join(keys)}")
    pictures = _pictures(found, row, base)
    groups = {
        "dataset": str(found.get("dataset", "")), "images": str(found.get("num_images", "")),
        "overlap": "yes" if _plain(str(found.get("dataset", ""))) in OVERLAP else "no",
    }  # fmt: skip
    prompt = prompt_of(found, str(row["question_text"]), options, mode)
    return Item(
        name, pictures, prompt, keys, options, keys.index(letter), str(found["sub-category"]),
        str(found["category"]), groups, max_tokens, mode == "chain-of-thought",
    )  # fmt: skip


def _pictures(found: dict[str, Any], row: dict[str, Any], base: Path) -> tuple[Picture, ...]:
    paths = [base / str(path) for path in row.get("image_paths") or ()]
    if found["category"] == NO_PICTURES and not all(path.is_file() for path in paths):
        paths = []
    if paths:
        return tuple(paths)
    if found["category"] != NO_PICTURES:
        raise ValueError("no picture is named")
    return (BLACK,)


def _plain(dataset: str) -> str:
    return "".join(filter(str.isalnum, dataset.lower()))
