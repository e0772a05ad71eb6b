"""The base checkpoint, its adapter, and one pass through both."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import modeling_utils
from transformers.modeling_layers import GradientCheckpointingLayer

from facellm_training.lora.bases import BaseError, Geometry, kind_of
from facellm_training.lora.collate import Batch
from facellm_training.lora.recipe import LoraRecipe, Part, Projector

#: Prefix of each part's modules in transformers' model.
PARTS = {
    "language": "model.language_model",
    "image_tower": "model.vision_tower",
    "projector": "model.multi_modal_projector",
}
#: The linear layers of each part, which LoRA is put on: InternVL's names and the nano's.
_LINEAR = {
    "language": "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj",
    "image_tower": "q_proj|k_proj|v_proj|projection_layer|out_proj|fc1|fc2",
    "projector": "linear_1|linear_2|fc1|fc2",
}
#: Whether transformers takes a mask of the places that the head is wanted for; older ones take a list for all rows.
_BY_MASK = hasattr(modeling_utils, "slice_logits_to_keep")


def load_base(folder: Path, recipe: LoraRecipe, device: torch.device) -> nn.Module:
    """The frozen base on the processor's side, in the type that it computes in. Raises ``BaseError``."""
    options: dict[str, Any] = {
        "dtype": torch.bfloat16 if recipe.speed.precision == "bf16" else torch.float32,
        "attn_implementation": attention(recipe.speed.attention, device),
    }
    if recipe.speed.four_bits:
        options["quantization_config"] = _four_bits(device)
        options["device_map"] = {"": device}
    load = kind_of(folder).load
    try:
        model, found = load(folder, output_loading_info=True, **options)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise BaseError(f"The base {folder.name} cannot be loaded: {error}", "Is its folder whole?") from error
    missing = sorted(found["missing_keys"])
    if missing:  # transformers draws them at random
        raise BaseError(
            f"The base {folder.name} lacks {len(missing)} weights, {missing[0]} among them.", "Fetch it anew."
        )
    model.requires_grad_(False)
    model.config.use_cache = False
    return model


def attention(name: str, device: torch.device) -> str:
    """What "auto" means here. Flash attention takes packed rows without computing what is masked."""
    if name != "auto":
        return name
    return "flash_attention_2" if device.type == "cuda" and find_spec("flash_attn") else "sdpa"


def _four_bits(device: torch.device) -> Any:
    if find_spec("bitsandbytes") is None or device.type != "cuda":
        lacking = "bitsandbytes is not installed" if find_spec("bitsandbytes") is None else "there is no CUDA device"
        raise BaseError(
            f"speed.four_bits (QLoRA) cannot be used: {lacking}.",
            "Install bitsandbytes on a machine with CUDA, or set speed.four_bits: false.",
        )
    import transformers

    return transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16, bnb_4bit_quant_storage=torch.bfloat16,
        llm_int8_skip_modules=["lm_head", "vision_tower", "multi_modal_projector"],
    )  # fmt: skip


def with_adapter(base: nn.Module, recipe: LoraRecipe) -> Any:
    """PEFT's model: LoRA of the recipe's ranks, trained weights in float32, everything else frozen."""
    import peft

    parts: dict[str, Part | Projector] = {
        "language": recipe.language, "image_tower": recipe.image_tower, "projector": recipe.projector,
    }  # fmt: skip
    ranked = {name: part for name, part in parts.items() if part.rank}
    targets = "|".join(rf"{_dots(PARTS[name])}\..*?({_LINEAR[name]})" for name in ranked)
    first = next(iter(ranked.values()))
    torch.manual_seed(recipe.optimiser.seed)
    config = peft.LoraConfig(
        r=first.rank, lora_alpha=first.alpha, lora_dropout=recipe.dropout, bias="none",
        target_modules=rf"^({targets})$",
        rank_pattern={rf"{_dots(PARTS[name])}\..*": part.rank for name, part in ranked.items()},
        alpha_pattern={rf"{_dots(PARTS[name])}\..*": part.alpha for name, part in ranked.items()},
        modules_to_save=["multi_modal_projector"] if recipe.projector.full else None,
    )  # fmt: skip
    model = peft.get_peft_model(base, config)
    model.peft_config["default"].base_model_name_or_path = recipe.base
    for values in model.parameters():
        if values.requires_grad:
            values.data = values.data.float()
    return model


def _dots(name: str) -> str:
    return name.replace(".", r"\.")


def part_of(name: str) -> str:
    """ "language", "image_tower" or "projector", by a parameter's name."""
    return next(part for part, prefix in PARTS.items() if f".{prefix}." in f".{name}")


def checkpointed(model: Any) -> None:
    """Keep each block's input only and compute the block again on the way back."""
    model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})


def compile_blocks(model: Any) -> None:
    """Have PyTorch write the blocks of tower and language model as few kernels; how many pictures there are varies."""
    inner = model.get_base_model().model
    for part, dynamic in ((inner.language_model, False), (inner.vision_tower, True)):
        for block in part.modules():
            if isinstance(block, GradientCheckpointingLayer):  # transformers' mark of a block
                block.compile(dynamic=dynamic)


class Normaliser:
    """uint8 pixels ``[P, side, side, 3]`` to what the tower reads: float ``[P, 3, side, side]``, on their device."""

    def __init__(self, shape: Geometry, device: torch.device, dtype: torch.dtype) -> None:
        self._mean = torch.tensor(shape.mean, device=device)[:, None, None]
        self._std = torch.tensor(shape.std, device=device)[:, None, None]
        self._dtype = dtype

    def __call__(self, pixels: Tensor) -> Tensor:
        values = pixels.permute(0, 3, 1, 2).float() / 255
        return ((values - self._mean) / self._std).to(self._dtype)


def logits_of(model: Any, batch: Batch, normalise: Normaliser) -> Tensor:
    """``[N, vocabulary]`` at the places ``batch.loud`` only: the head over whole rows would be most of the memory."""
    keep = batch.loud if _BY_MASK else batch.loud.any(0).nonzero()[:, 0]
    found = model(
        input_ids=batch.input_ids, pixel_values=normalise(batch.pixels), position_ids=batch.position_ids,
        attention_mask=batch.attention_mask, logits_to_keep=keep, use_cache=False,
    )  # fmt: skip
    return found.logits if _BY_MASK else found.logits[batch.loud[:, keep]]


def loss_sum(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of ``[N, vocabulary]`` summed, in float32."""
    return F.cross_entropy(logits.float(), targets, reduction="sum")
