"""``facellm train recipes/nano.yaml``: cache → measure → image stage → words → language stage → card → checkpoint.

Each step leaves its result below the recipe's ``out`` and is skipped when it is complete, so that a
killed run goes on where it was.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from facellm.models.nano import clip_onnx
from facellm.models.store import AssetStore
from facellm_training.data.fairface import SPLITS
from facellm_training.data.labels import FaceLabels, join_labels, read_by_file
from facellm_training.data.measured import measure_split
from facellm_training.nano import image_stage, language_stage, word_stage
from facellm_training.nano.cache import FeatureCache, cache_split, open_cache
from facellm_training.nano.checkpoint import write_checkpoint
from facellm_training.nano.curves import draw_curves
from facellm_training.nano.export import write_deltas
from facellm_training.nano.finish import finish
from facellm_training.nano.language import Language, load_language
from facellm_training.nano.machine import best_device, compile_blocks, keep_memory
from facellm_training.nano.recipe import NanoRecipe
from facellm_training.nano.sequence import Packer
from facellm_training.nano.tower import Tower

#: Folder below the recipe's ``out``.
CHECKPOINT = "checkpoint"


def train_nano(recipe: NanoRecipe, *, trained: str) -> Path:
    """Run what is missing and return the deltas file; beside it lies ``checkpoint``, the model as ``convert`` takes it.

    ``trained``: free text for the metadata (date, machine).
    """
    torch.set_num_threads(recipe.threads)
    keep_memory()
    recipe.out.mkdir(parents=True, exist_ok=True)
    store = AssetStore()
    weights = clip_onnx.read_clip_tower(store.ensure("clip-vit-b16-int8"))
    cache, labels = prepare(recipe, weights, store)
    image = train_image(recipe, weights, cache, labels)
    heads_projector = copy.deepcopy(image.projector)
    language, tokenizer = language_model(recipe, image, store)
    word_stage.train(image, word_stage.WordHeads(language, tokenizer), cache, labels, recipe.words, recipe.out)
    packer, pad = Packer(tokenizer, language_stage.AGE_WEIGHT), int(tokenizer.eos_token_id)
    model = language_stage.NanoModel(image, language, packer.head, heads_projector)
    language_stage.train(model, packer, pad, cache, labels, recipe.language, recipe.out)
    draw_curves(recipe.out)
    deltas = finish(recipe, lambda temperature: export(recipe, weights, model, trained, temperature), store)
    write_checkpoint(recipe.out / CHECKPOINT, store, deltas, force=True)
    return deltas


def prepare(recipe: NanoRecipe, weights: clip_onnx.Weights, store: AssetStore) -> tuple[FeatureCache, list[FaceLabels]]:
    """The feature cache of the training split and its labels."""
    lower = Tower(weights, last=recipe.cache.split_block, dtype=_dtype(recipe)).eval().to(best_device())
    cache_split(recipe.data, "train", recipe.out / "cache", lower, views=recipe.cache.views, seed=recipe.cache.seed)
    for split in SPLITS:
        measure_split(recipe.data, split, recipe.out / f"measured-{split}.jsonl", store)
    cache = open_cache(recipe.out / "cache", "train")
    attributes = read_by_file(recipe.data / "attributes-train.jsonl")
    return cache, join_labels(cache.items, attributes, read_by_file(recipe.out / "measured-train.jsonl"))


def train_image(
    recipe: NanoRecipe, weights: clip_onnx.Weights, cache: FeatureCache, labels: list[FaceLabels]
) -> image_stage.ImageModel:
    """The image stage, trained or resumed."""
    torch.manual_seed(recipe.image.seed)
    model = image_stage.ImageModel(weights, recipe.image).to(best_device())
    if recipe.compiled:
        compile_blocks(model.tower.blocks)
    report = image_stage.train(model, cache, labels, recipe.image, recipe.out)
    print(json.dumps(report, indent=1))
    return model


def language_model(
    recipe: NanoRecipe, image: image_stage.ImageModel, store: AssetStore
) -> tuple[Language, PreTrainedTokenizerBase]:
    """The language model with fresh LoRA, and its tokenizer."""
    torch.manual_seed(recipe.language.seed)
    settings = recipe.language
    language, tokenizer = load_language(
        store.ensure("smollm2-135m-q4_1"), rank=settings.rank, alpha=settings.alpha, bf16=settings.bf16
    )
    if recipe.compiled:
        compile_blocks(language.layers)
    return language.to(image.device), tokenizer


def export(
    recipe: NanoRecipe, weights: clip_onnx.Weights, model: language_stage.NanoModel, trained: str, temperature: float
) -> Path:
    """Write ``out/deltas.safetensors`` of a trained model."""
    path = recipe.out / "deltas.safetensors"
    write_deltas(
        path, weights, model, version=recipe.version, trained=trained,
        tower_scale=recipe.image.alpha / recipe.image.rank,
        language_scale=recipe.language.alpha / recipe.language.rank,
        choice_temperature=temperature,
    )  # fmt: skip
    return path


def _dtype(recipe: NanoRecipe) -> torch.dtype:
    return torch.bfloat16 if recipe.image.bf16 else torch.float32
