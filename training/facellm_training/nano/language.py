"""SmolLM2-135M in PyTorch, read from its GGUF, with LoRA on every matrix of its blocks."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from facellm_training.nano.tower import LoraLinear

MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class FloatOut(nn.Module):
    """Computes a linear layer in its own type and returns float32, so that the residual stream keeps its precision."""

    def __init__(self, inner: LoraLinear) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).float()


def load_language(
    gguf: Path, *, rank: int, alpha: float, bf16: bool
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """The frozen model (float32 residual stream) with trainable LoRA layers, and its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model.requires_grad_(False)
    model.config.use_cache = False
    dtype = torch.bfloat16 if bf16 else torch.float32
    for layer in model.model.layers:
        for part in (layer.self_attn, layer.mlp):
            for name in MATRICES:
                linear = getattr(part, name, None)
                if linear is not None:
                    lora = LoraLinear(linear.weight.detach(), None, rank, alpha, dtype)
                    setattr(part, name, FloatOut(lora))
    return cast("LlamaForCausalLM", model), cast("PreTrainedTokenizerBase", tokenizer)


def lora_state(model: nn.Module) -> dict[str, Tensor]:
    """``layers.{i}.self_attn.q_proj.lora_a`` … → tensors ``[rank, in]`` and ``[out, rank]``."""
    state = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear) and module.scale:
            key = name.removeprefix("model.").removesuffix(".inner")
            state[f"{key}.lora_a"] = module.a.detach().clone()
            state[f"{key}.lora_b"] = module.b.detach().clone()
    return state


def word_logits(model: LlamaForCausalLM, hidden: Tensor) -> Tensor:
    """Logits over the vocabulary, ``[n, 49152]``; computed in bfloat16 where the blocks are."""
    weight = model.lm_head.weight
    first = next(m for m in model.modules() if isinstance(m, LoraLinear))
    dtype = first.weight.dtype
    if dtype != torch.float32:
        cached = getattr(model, "_word_matrix", None)
        if cached is None:
            cached = weight.to(dtype)
            model._word_matrix = cached  # noqa: SLF001 - one cast for the whole run
        weight = cached
    return F.linear(hidden.to(weight.dtype), weight).float()
