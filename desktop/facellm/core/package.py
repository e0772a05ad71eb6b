"""A model as one thing: a language GGUF and the mmproj GGUF that belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """``tile``: side in pixels of the square picture that the model receives as exactly one tile."""

    name: str
    llm: Path
    mmproj: Path
    tile: int
    title: str = ""
    licence: str = ""
