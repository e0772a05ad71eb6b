"""A session of LoRA training on a model of InternVL3-1B's shape with random weights and made-up conversations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from facellm_training.lora.corpus import Part
    from facellm_training.lora.recipe import LoraRecipe
    from facellm_training.lora.session import Session

VISION_1B = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
TEXT_1B = {
    "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
    "intermediate_size": 4864, "vocab_size": 151674,
}  # fmt: skip
VISION_TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
TEXT_TINY = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 128, "vocab_size": 2000,
}  # fmt: skip
CONTEXT = 1500


def prepared(recipe: LoraRecipe, folder: Path, *, small: bool) -> Session:
    """As ``lora.run.prepare``, with random weights and pictures in place of files."""
    import torch
    from accelerate import Accelerator

    from facellm_training.lora import bases, model
    from facellm_training.lora.corpus import Corpus
    from facellm_training.lora.corpus import Part as Conversations
    from facellm_training.lora.images import Tiles, cached
    from facellm_training.lora.optimiser import optimiser
    from facellm_training.lora.session import Session

    recipe.out.mkdir(parents=True)
    accelerator = Accelerator(mixed_precision="bf16" if recipe.speed.precision == "bf16" else "no")
    dtype = torch.bfloat16 if recipe.speed.precision == "bf16" else torch.float32
    base = random_model(recipe, accelerator.device, small=small).to(dtype)
    tuned = model.with_adapter(base, recipe)
    if recipe.speed.gradient_checkpointing:
        model.checkpointed(tuned)
    if recipe.speed.compiled:
        model.compile_blocks(tuned)
    optim = optimiser(tuned, recipe, accelerator.device)
    tuned, optim = accelerator.prepare(tuned, optim)
    side = 112 if small else 448
    shape = bases.Geometry(side, (side // 28) ** 2, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    train = conversations(recipe, folder, shape.tokens, base.config.text_config.vocab_size)
    tiles = cached(train.images, side, folder / "cache", _quiet) if recipe.data.image_cache else Tiles(side)
    corpus = Corpus(train, Conversations(), [], {}, "")  # type: ignore[arg-type]
    normalise = model.Normaliser(shape, accelerator.device, dtype)
    return Session(recipe, accelerator, tuned, optim, normalise, corpus, tiles, 0, {}, _quiet)


def _quiet(_: str) -> None:
    """Nothing is told."""


def random_model(recipe: LoraRecipe, device: torch.device, *, small: bool) -> Any:
    """InternVL3 with the first random weights that transformers gives it."""
    import torch
    from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig, Qwen2Config

    from facellm_training.lora.model import attention

    side = 112 if small else 448
    vision = InternVLVisionConfig(
        image_size=[side, side], patch_size=[14, 14], attention_bias=True, norm_type="layer_norm", use_qk_norm=False,
        **(VISION_TINY if small else VISION_1B),
    )  # fmt: skip
    text = Qwen2Config(
        max_position_embeddings=32768, rope_theta=1e6, tie_word_embeddings=True,
        **(TEXT_TINY if small else TEXT_1B),
    )  # fmt: skip
    config = InternVLConfig(
        vision_config=vision, text_config=text, image_token_id=CONTEXT, image_seq_length=(side // 28) ** 2,
        downsample_ratio=0.5, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    with device:
        found = InternVLForConditionalGeneration._from_config(  # noqa: SLF001 - what Auto classes call, too
            config, attn_implementation=attention(recipe.speed.attention, device)
        )
    found.requires_grad_(False)
    found.config.use_cache = False
    return found


def conversations(recipe: LoraRecipe, folder: Path, image_tokens: int, vocabulary: int) -> Part:
    """A step's batch of them: a question of 18 to 32 tokens; answers as GPT-4o's descriptions are, 40 to 220."""
    import numpy as np
    from PIL import Image

    from facellm_training.lora.conversations import Conversation
    from facellm_training.lora.corpus import Part
    from facellm_training.lora.template import SILENT, Encoded

    draw = np.random.default_rng(0)
    part = Part()
    for number in range(recipe.optimiser.batch):
        path = folder / f"{number // 8}.jpg"
        if not path.exists():
            coarse = draw.integers(0, 255, (28, 28, 3)).astype(np.uint8)
            Image.fromarray(coarse).resize((224, 224)).save(path, quality=90)
        asked, answered = (int(draw.integers(*span)) for span in ((18, 32), (40, 220)))
        if vocabulary < 10_000:
            answered //= 4
        words = draw.integers(0, CONTEXT, asked + answered)
        ids = np.concatenate([words[:8], np.full(image_tokens, CONTEXT), words[8:]]).astype(np.int32)
        labels = np.where(np.arange(len(ids)) < len(ids) - answered, SILENT, ids).astype(np.int32)
        part.conversations.append(Conversation(str(number), (path,), ()))
        part.encoded.append(Encoded(ids, labels, 1))
    return part
