"""Settings of a nano training run, read from a commented YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from facellm.core.errors import FaceLLMError
from facellm_training.nano.finish import Measure
from facellm_training.nano.image_stage import ImageStage
from facellm_training.nano.language_stage import LanguageStage
from facellm_training.nano.word_stage import WordStage

Settings = TypeVar("Settings")


class RecipeError(FaceLLMError):
    """A recipe that cannot be used."""


@dataclass(frozen=True, slots=True)
class CacheStage:
    """``views`` per training picture; blocks below ``split_block`` are run once and kept."""

    views: int = 2
    split_block: int = 6
    seed: int = 0


@dataclass(frozen=True, slots=True)
class NanoRecipe:
    """A whole run. Relative paths are relative to the working directory."""

    data: Path
    out: Path
    version: str = "1"
    threads: int = 2
    #: Whether PyTorch compiles the blocks (1.5 times as fast on two cores; see benchmarks/training.py).
    compiled: bool = True
    cache: CacheStage = field(default_factory=CacheStage)
    image: ImageStage = field(default_factory=ImageStage)
    words: WordStage = field(default_factory=WordStage)
    language: LanguageStage = field(default_factory=LanguageStage)
    measure: Measure = field(default_factory=Measure)


def read_recipe(path: Path) -> NanoRecipe:
    """Read and check a recipe. Raises ``RecipeError`` naming the key that is wrong."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"The recipe {path} cannot be read: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"The recipe {path} is not valid YAML: {error}") from error
    if not isinstance(raw, dict) or "data" not in raw or "out" not in raw:
        raise RecipeError(f"The recipe {path} needs at least the keys data and out.")
    stages: dict[str, type[Any]] = {
        "cache": CacheStage, "image": ImageStage, "words": WordStage, "language": LanguageStage,
        "measure": Measure,
    }  # fmt: skip
    values = {key: _stage(stages[key], value, key) if key in stages else value for key, value in raw.items()}
    values["data"], values["out"] = Path(raw["data"]), Path(raw["out"])
    recipe = _stage(NanoRecipe, values, "the recipe")
    if recipe.image.first_block != recipe.cache.split_block:
        raise RecipeError("image.first_block must equal cache.split_block: the cache holds that block's input.")
    return recipe


def _stage(kind: type[Settings], values: dict[str, Any], where: str) -> Settings:
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    unknown = set(values) - known
    if unknown:
        raise RecipeError(
            f"{where} has no setting {', '.join(sorted(unknown))}.", f"It has {', '.join(sorted(known))}."
        )
    return kind(**values)
