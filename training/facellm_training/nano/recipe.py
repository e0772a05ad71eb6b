"""Settings of a nano training run, read from a commented YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from facellm_training.nano.finish import Measure
from facellm_training.nano.image_stage import ImageStage
from facellm_training.nano.language_stage import LanguageStage
from facellm_training.nano.word_stage import WordStage
from facellm_training.recipe import RecipeError, as_settings, read_yaml


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
    recipe = as_settings(NanoRecipe, read_yaml(path))
    if recipe.image.first_block != recipe.cache.split_block:
        raise RecipeError("image.first_block must equal cache.split_block: the cache holds that block's input.")
    return recipe
