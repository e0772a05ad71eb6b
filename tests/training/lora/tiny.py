"""A tiny InternVL with a tokenizer, and conversations about computed pictures whose colour is the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from tests.converters import checkpoints

SIDE = checkpoints.IMAGE
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220)}
LETTERS = "ABC"


def base(folder: Path, language: str = "qwen2") -> Path:
    """A random checkpoint: 16 tokens a picture of 112 pixels."""
    checkpoints.internvl(folder, language)
    return folder


def picture(path: Path, colour: str, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(-25, 25, (90, 70, 3))
    values = np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(values).save(path)


def conversations(folder: Path, pictures: int = 12, each: int = 2) -> Path:
    """``pictures`` with ``each`` conversations: an open one, then closed ones. Returns the folder."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(pictures):
        colour = list(COLOURS)[number % 3]
        name = f"images/{number}.png"
        picture(folder / name, colour, number)
        open_one = [("user", "<image>\nDescribe the lighting."), ("assistant", f"The light is {colour}.")]
        rows.append(row(f"{number}-open", name, open_one, "open"))
        for turn in range(each - 1):
            lines = "\n".join(f"{letter}) {each}" for letter, each in zip(LETTERS, COLOURS, strict=True))
            letter = LETTERS[number % 3]
            asked = [("user", f"<image>Which light is it?\n{lines}"), ("assistant", letter)]
            rows.append(row(f"{number}-{turn}", name, asked, "choice", list(COLOURS), letter))
    (folder / "conversations.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return folder


def row(
    name: str, image: str, said: list[tuple[str, str]], kind: str, choices: list[str] | None = None, answer: str = ""
) -> dict[str, Any]:
    messages = [{"role": role, "content": text} for role, text in said]
    return {"id": name, "images": [image], "messages": messages, "aspect": "lighting", "format": kind,
            "choices": choices or [], "answer": answer}  # fmt: skip


def recipe(base: Path, data: Path, out: Path, /, **changes: Any) -> dict[str, Any]:
    """Settings as YAML has them; ``changes`` by part, for example ``optimiser={"batch": 2}``."""
    settings: dict[str, Any] = {
        "kind": "lora", "base": str(base), "out": str(out), "threads": 1, "save_every": 2,
        "data": {"path": str(data), "held_out": 3, "max_tokens": 256, "workers": 0},
        "language": {"rank": 4, "alpha": 8, "lr": 5e-3},
        "optimiser": {"batch": 4, "epochs": 1.0, "seed": 3},
        "speed": {"row_tokens": 256, "rows": 1, "precision": "fp32", "gradient_checkpointing": False},
        "evaluation": {"every": 3, "keep": "last"},
    }  # fmt: skip
    for name, value in changes.items():
        settings[name] = settings.get(name, {}) | value if isinstance(value, dict) else value
    return settings


def written(path: Path, settings: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(settings))
    return path
