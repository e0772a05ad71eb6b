"""Settings of an annotation run, read from a commented YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from facellm.core.aspects import ASPECTS
from facellm_training.recipe import RecipeError, as_settings, check_one_of, check_positive, read_yaml


@dataclass(frozen=True, slots=True)
class Source:
    """Where pictures come from. ``kind``: "hub" (a data set's name), "parquet" or "folder" (a path).

    ``labels``, ``columns`` (file, age, gender): of a folder's table. ``publish``: whether the card may show pictures.
    """

    kind: str = "hub"
    path: str = "HuggingFaceM4/FairFace"
    config: str = "0.25"
    split: str = "train"
    labels: str = "labels.csv"
    columns: dict[str, str] = field(default_factory=lambda: {"file": "file", "age": "age", "gender": "gender"})
    licence: str = "CC BY 4.0"
    publish: bool = True
    limit: int | None = None
    leave_held_out: bool = True
    max_side: int = 448


@dataclass(frozen=True, slots=True)
class Teacher:
    """The server that answers. ``key_env`` names an environment variable; the key itself is never written anywhere."""

    model: str = "gpt-4o-2024-11-20"
    base_url: str = "https://api.openai.com/v1"
    key_env: str = "OPENAI_API_KEY"
    #: "labels": the attribute-aware prompt; "question": the stored question alone, for teachers too small for it.
    prompting: str = "labels"
    detail: str = "auto"
    temperature: float = 0.7
    max_tokens: int = 300
    json_schema: bool = True
    store: bool = True


@dataclass(frozen=True, slots=True)
class Pace:
    """Live mode: ``per_minute`` requests, ``tries`` a request; seconds for the rest."""

    concurrency: int = 8
    per_minute: float = 500.0
    tries: int = 6
    timeout_s: float = 90.0
    backoff_s: float = 1.0
    longest_wait_s: float = 60.0
    #: How long a stored answer to a request that was cut off is looked for before it is asked again.
    settle_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Batches:
    """Batch mode: the service's limits for one file, and how often it is asked."""

    part_requests: int = 20_000
    part_mb: float = 180.0
    poll_s: float = 60.0
    rounds: int = 3


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars a million tokens, ``source`` with its date; ``image_tokens`` a picture, ``answer_tokens`` expected."""

    prompt: float = 2.5
    completion: float = 10.0
    batch_share: float = 0.5
    image_tokens: int = 255
    answer_tokens: int = 130
    seconds: float = 4.0
    source: str = ""
    budget: float = 10.0


@dataclass(frozen=True, slots=True)
class Questions:
    """How many of each form a picture gets; a share below one is a chance."""

    aspects: list[str] = field(default_factory=lambda: [item.key for item in ASPECTS])
    facts: bool = True
    choice: float = 2.0
    yesno: float = 1.0
    short: float = 1.0
    json: float = 0.5
    unseen: float = 0.3
    compare: float = 0.5
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Filters:
    """``similar``: share of common three-word runs from which two answers to one aspect count as the same, above 0 to
    1; ``repeats``: share of the pictures about which an aspect may keep the same answer."""

    similar: float = 0.9
    repeats: float = 0.02
    least_words: int = 4


@dataclass(frozen=True, slots=True)
class AnnotateRecipe:
    """A whole run. Relative paths are relative to the working directory."""

    out: Path
    name: str = "fairfacegpt"
    mode: str = "live"
    source: Source = field(default_factory=Source)
    teacher: Teacher = field(default_factory=Teacher)
    pace: Pace = field(default_factory=Pace)
    batches: Batches = field(default_factory=Batches)
    prices: Prices = field(default_factory=Prices)
    questions: Questions = field(default_factory=Questions)
    filters: Filters = field(default_factory=Filters)


def read_recipe(path: Path) -> AnnotateRecipe:
    """Read and check a recipe. Raises ``RecipeError`` naming the key that is wrong."""
    return checked(as_settings(AnnotateRecipe, read_yaml(path)))


def checked(recipe: AnnotateRecipe) -> AnnotateRecipe:
    """The same recipe. Raises ``RecipeError`` for values that cannot be meant."""
    check_one_of({
        "mode": (recipe.mode, ("live", "batch")),
        "source.kind": (recipe.source.kind, ("hub", "parquet", "folder")),
        "source.split": (recipe.source.split, ("train", "validation")),
        "teacher.prompting": (recipe.teacher.prompting, ("labels", "question")),
        "teacher.detail": (recipe.teacher.detail, ("auto", "low", "high")),
    })  # fmt: skip
    for key in recipe.questions.aspects:
        check_one_of({"questions.aspects": (key, tuple(item.key for item in ASPECTS))})
    check_positive({
        "pace.concurrency": recipe.pace.concurrency, "pace.per_minute": recipe.pace.per_minute,
        "pace.tries": recipe.pace.tries, "pace.timeout_s": recipe.pace.timeout_s,
        "batches.part_requests": recipe.batches.part_requests, "batches.part_mb": recipe.batches.part_mb,
        "batches.rounds": recipe.batches.rounds, "teacher.max_tokens": recipe.teacher.max_tokens,
        "source.max_side": recipe.source.max_side,
        "source.limit": 1 if recipe.source.limit is None else recipe.source.limit,
    })  # fmt: skip
    if not 0 < recipe.filters.similar <= 1 or not 0 <= recipe.filters.repeats <= 1:
        raise RecipeError("filters.similar is above 0 and at most 1, filters.repeats from 0 to 1.")
    if recipe.prices.budget < 0 or min(recipe.prices.prompt, recipe.prices.completion) < 0:
        raise RecipeError("prices.budget, prices.prompt and prices.completion cannot be less than 0.")
    missing = {"file", "age", "gender"} - set(recipe.source.columns)
    if missing:
        raise RecipeError(f"source.columns does not say which column is {', '.join(sorted(missing))}.")
    return recipe


def changed(
    recipe: AnnotateRecipe, *, base_url: str = "", model: str = "", data: str = "", out: Path | None = None,
    split: str = "", limit: int | None = None, budget: float | None = None, mode: str = "",
) -> AnnotateRecipe:  # fmt: skip
    """The recipe with what a command line sets in its place. Raises ``RecipeError``."""
    source = recipe.source
    if data:
        has_parquet = any(Path(data).glob("*.parquet"))
        kind = "parquet" if has_parquet else "folder"
        # Whose pictures a folder holds is not known: they are shown nowhere unless a recipe says so.
        known = {} if has_parquet or source.kind == "folder" else {"licence": "", "publish": False}
        source = replace(source, kind=kind, path=data, **known)  # type: ignore[arg-type]
    source = replace(source, split=split or source.split, limit=source.limit if limit is None else limit)
    teacher = replace(recipe.teacher, base_url=base_url or recipe.teacher.base_url, model=model or recipe.teacher.model)
    prices = recipe.prices if budget is None else replace(recipe.prices, budget=budget)
    return checked(
        replace(recipe, source=source, teacher=teacher, prices=prices, out=out or recipe.out, mode=mode or recipe.mode)
    )
