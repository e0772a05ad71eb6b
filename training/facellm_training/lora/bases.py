"""What LoRA is put on: the kinds of base checkpoints, how each sees a picture, and where a recipe's base lies."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from facellm.core.errors import FaceLLMError
from facellm.models.store import AssetStore
from facellm_converters.checkpoint.source import resolve
from facellm_training.lora.nano_base import NANO_MARKS, load_nano
from facellm_training.lora.recipe import NANO, LoraRecipe
from facellm_training.lora.template import INTERN_MARKS, Marks
from facellm_training.nano.checkpoint import kept_checkpoint
from facellm_training.nano.checkpoint_files import ARCHITECTURE as NANO_ARCHITECTURE

Tell = Callable[[str], None]
Colours = tuple[float, ...]


class BaseError(FaceLLMError):
    """A base checkpoint that cannot be trained, or a way of training that this machine cannot do."""


@dataclass(frozen=True, slots=True)
class Kind:
    """``load``: gives transformers' model, whose parts have the names in ``model.PARTS``; takes the folder and options
    of ``from_pretrained``. ``mean``, ``std``: of RGB, where the folder does not say them. ``tokenizer``: options of
    ``AutoTokenizer``."""

    load: Callable[..., Any]
    marks: Marks
    mean: Colours
    std: Colours
    tokenizer: Mapping[str, Any] = field(default_factory=dict)


def _load_intern(folder: Path, **options: Any) -> Any:
    import transformers

    return transformers.InternVLForConditionalGeneration.from_pretrained(folder, **options)


#: By the first of config.json's ``architectures``.
KINDS = {
    "InternVLForConditionalGeneration": Kind(
        _load_intern, INTERN_MARKS, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ),
    NANO_ARCHITECTURE: Kind(
        load_nano, NANO_MARKS, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711),
        {"config": PreTrainedConfig()},  # else transformers warns of a kind that it does not know
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Geometry:
    """``side``: of the tile, pixels. ``tokens``: that a picture becomes. ``mean`` and ``std``: of RGB in 0…1."""

    side: int
    tokens: int
    mean: Colours
    std: Colours


def kind_of(folder: Path) -> Kind:
    """Of the checkpoint in ``folder``. Raises ``BaseError`` for one that is not trained here."""
    architecture = str((_json(folder / "config.json").get("architectures") or ["none"])[0])
    if architecture not in KINDS:
        own = architecture == "InternVLChatModel"
        raise BaseError(
            f"The base is a {architecture}; LoRA training takes {' and '.join(KINDS)}.",
            "This is OpenGVLab's own layout: take the checkpoint of the same name that ends in -hf." if own else "",
        )
    return KINDS[architecture]


def geometry(folder: Path) -> Geometry:
    """What the checkpoint in ``folder`` makes of a picture. Raises ``BaseError`` as ``kind_of``."""
    kind, config = kind_of(folder), _json(folder / "config.json")
    vision = config["vision_config"]
    side, patch = (_first(vision[key]) for key in ("image_size", "patch_size"))
    tokens = round((side // patch * float(config.get("downsample_ratio", 0.5))) ** 2)
    for name in ("preprocessor_config.json", "processor_config.json"):
        about = _json(folder / name) if (folder / name).is_file() else {}
        about = about.get("image_processor", about)
        if "image_mean" in about:
            return Geometry(side, tokens, tuple(about["image_mean"]), tuple(about["image_std"]))
    return Geometry(side, tokens, kind.mean, kind.std)


def located(recipe: LoraRecipe, told: Callable[[str, int, int], None], tell: Tell) -> Path:
    """The base's folder: the recipe's, or where the hub's model or the embedded one now lies.

    ``told``: bytes of a fetch, see ``resolve``. Raises ``FaceLLMError``.
    """
    if recipe.base == NANO:
        return kept_checkpoint(AssetStore(), tell)
    return resolve(recipe.base, revision=recipe.revision or None, cache=None, tell=told)


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, list) else value)


def _json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise BaseError(f"{path} cannot be read: {error}.", "Is the base's folder whole?") from error
    return found
