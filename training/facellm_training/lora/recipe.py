"""Settings of a LoRA fine-tuning, read from a commented YAML file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from facellm_training.recipe import RecipeError, as_settings, check_one_of, check_positive, read_yaml

KIND = "lora"
#: As ``base``: the embedded model.
NANO = "nano"


@dataclass(frozen=True, slots=True)
class Part:
    """LoRA on one part of the model. ``rank`` 0: it stays frozen."""

    rank: int = 0
    alpha: float = 0.0
    lr: float = 1.0e-5


@dataclass(frozen=True, slots=True)
class Projector:
    """``full``: its own weights are trained, not LoRA beside them."""

    rank: int = 0
    alpha: float = 0.0
    lr: float = 1.0e-5
    full: bool = False


@dataclass(frozen=True, slots=True)
class Data:
    """``path``: a conversations file, or a folder with one or with LLaMA-Factory's dataset_info.json (``name``: which
    dataset of it). ``held_out``: so many pictures' conversations are kept for measuring, unless ``evaluate`` names
    conversations of their own. ``max_tokens``: longest conversation, image tokens included. ``faulty``: "stop" or
    "skip" (counted in the report)."""

    path: Path
    name: str = ""
    evaluate: Path | None = None
    held_out: int = 200
    max_tokens: int = 2048
    faulty: str = "stop"
    #: Decoded tiles on disk, side²·3 bytes a picture; false: every picture is decoded each time.
    image_cache: bool = True
    #: Processes that decode and pack ahead.
    workers: int = 2


@dataclass(frozen=True, slots=True)
class Optimiser:
    """AdamW with one cosine from ``lr`` to ``final_share`` of it, after ``warm_up`` (share of all steps) of linear
    rise."""

    epochs: float = 1.0
    #: Conversations a step, over all devices.
    batch: int = 80
    warm_up: float = 0.0
    final_share: float = 0.0
    weight_decay: float = 0.0
    clip: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Speed:
    """What changes the time and memory of a step, not (but for rounding) its result."""

    #: Conversations one after another in rows of at most ``row_tokens``, none seeing another, ``rows`` a pass; false:
    #: padded batches of ``micro_batch``.
    packing: bool = True
    row_tokens: int = 2048
    rows: int = 4
    micro_batch: int = 4
    #: "bf16" or "fp32".
    precision: str = "bf16"
    #: "auto": flash attention where it is installed, else PyTorch's own ("sdpa"); or one of transformers' names.
    attention: str = "auto"
    gradient_checkpointing: bool = True
    #: The blocks are compiled by PyTorch; rows are then filled up to ``row_tokens``.
    compiled: bool = False
    #: Base weights in 4 bits (QLoRA); needs bitsandbytes and CUDA.
    four_bits: bool = False


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Every ``every`` steps (0: only at the end): loss on held-out conversations, and closed questions by the
    probabilities of their keys. ``watch``: "loss" or "accuracy" or "probability", what decides which adapter is the
    best and when to stop: after ``patience`` evaluations without a better one (0: never). ``keep``: "best" or "last",
    which adapter is the run's result. ``items``: at most so many of each."""

    every: int = 100
    items: int = 400
    watch: str = "probability"
    patience: int = 0
    keep: str = "best"


@dataclass(frozen=True, slots=True)
class Release:
    """What ``facellm release`` makes of the adapter. ``quants``: the kinds to be offered. ``wide``: the kind in which
    the base and the tuned model stand beside them in every table. ``fairface``: folder with FairFace's parquet,
    ``facexbench``: FaceXBench's folder; without them the models are asked the held-out closed questions only.
    ``limit``: pictures of FairFace, and questions of each FaceXBench file, at most."""

    quants: list[str] = field(default_factory=lambda: ["Q8_0", "Q4_K_M"])
    wide: str = "F16"
    fairface: Path | None = None
    facexbench: Path | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class LoraRecipe:
    """A whole run. Relative paths are relative to the working directory. ``base``: a folder with a checkpoint in the
    ``-hf`` layout or the nano's, or a hub id, or "nano" for the embedded model. ``save_every``: steps between two
    states that a killed run goes on from."""

    base: str
    out: Path
    data: Data
    revision: str = ""
    language: Part = field(default_factory=lambda: Part(16, 32.0))
    image_tower: Part = field(default_factory=Part)
    projector: Projector = field(default_factory=Projector)
    dropout: float = 0.0
    optimiser: Optimiser = field(default_factory=Optimiser)
    speed: Speed = field(default_factory=Speed)
    evaluation: Evaluation = field(default_factory=Evaluation)
    release: Release = field(default_factory=Release)
    save_every: int = 100
    threads: int | None = None

    def as_json(self) -> dict[str, Any]:
        """All settings, paths as text."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self), default=str))
        return found

    def identity(self) -> dict[str, Any]:
        """The settings that a run's numbers depend on, flat: a resumed run must have the same. What the data's settings
        select is compared itself, see ``Corpus.fingerprint``."""
        found = self.as_json()
        for name in ("out", "save_every", "threads", "release"):
            del found[name]
        found["data"] = {"held_out": found["data"]["held_out"]}
        found["speed"] = {name: found["speed"][name] for name in ("precision", "four_bits")}
        flat = {key: value for key, value in found.items() if not isinstance(value, dict)}
        for part, values in found.items():
            if isinstance(values, dict):
                flat |= {f"{part}.{key}": value for key, value in values.items()}
        return flat


def recipe_kind(path: Path) -> str:
    """``kind`` of a recipe: "lora", or "nano" where it says none. Raises ``RecipeError``."""
    return str(read_yaml(path).get("kind", "nano"))


def read_recipe(path: Path) -> LoraRecipe:
    """Read and check a recipe. Raises ``RecipeError`` naming the key that is wrong."""
    raw = read_yaml(path)
    kind = raw.pop("kind", "nano")
    if kind != KIND:
        raise RecipeError(f"The recipe {path} is of the kind {kind}; this takes kind: {KIND}.")
    recipe = as_settings(LoraRecipe, raw)
    _check(recipe)
    return recipe


def _check(recipe: LoraRecipe) -> None:
    check_positive({
        "optimiser.batch": recipe.optimiser.batch, "optimiser.epochs": recipe.optimiser.epochs,
        "speed.row_tokens": recipe.speed.row_tokens, "speed.micro_batch": recipe.speed.micro_batch,
        "speed.rows": recipe.speed.rows,
        "save_every": recipe.save_every, "data.max_tokens": recipe.data.max_tokens,
    })  # fmt: skip
    check_one_of({
        "data.faulty": (recipe.data.faulty, ("stop", "skip")),
        "speed.precision": (recipe.speed.precision, ("bf16", "fp32")),
        "evaluation.watch": (recipe.evaluation.watch, ("loss", "accuracy", "probability")),
        "evaluation.keep": (recipe.evaluation.keep, ("best", "last")),
    })  # fmt: skip
    _check_parts(recipe)
    if recipe.speed.packing and recipe.speed.row_tokens < recipe.data.max_tokens:
        raise RecipeError(
            f"speed.row_tokens ({recipe.speed.row_tokens}) is less than data.max_tokens ({recipe.data.max_tokens}): "
            "the longest conversation would fit into no row."
        )


def _check_parts(recipe: LoraRecipe) -> None:
    if recipe.projector.full and recipe.projector.rank:
        raise RecipeError("projector is trained whole (full) or by LoRA (rank), not both.", "Set rank to 0.")
    ranks = {
        name: (part.rank, part.alpha)
        for name, part in (
            ("language", recipe.language), ("image_tower", recipe.image_tower), ("projector", recipe.projector),
        )
    }  # fmt: skip
    for name, (rank, alpha) in ranks.items():
        if rank < 0 or (rank and alpha <= 0):
            raise RecipeError(f"{name} has rank {rank} and alpha {alpha}; both must be more than 0.")
    if not any(rank for rank, _ in ranks.values()):
        raise RecipeError("Every rank is 0; an adapter needs LoRA on at least one part.", "Give language a rank.")
