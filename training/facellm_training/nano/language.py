"""SmolLM2-135M in PyTorch, read from its GGUF, with LoRA on every matrix of its blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from facellm_training.nano.attention import additive, attend
from facellm_training.nano.tower import LoraLinear

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")


class Layer(nn.Module):
    """One Llama block. Its matrices compute in ``dtype``; the residual stream stays float32."""

    norm1: Tensor
    norm2: Tensor
    self_attn: nn.ModuleDict
    mlp: nn.ModuleDict

    def __init__(self, source: Any, rank: int, alpha: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.head_width, self.eps = source.self_attn.head_dim, source.input_layernorm.variance_epsilon
        self.register_buffer("norm1", source.input_layernorm.weight.detach().clone(), persistent=False)
        self.register_buffer("norm2", source.post_attention_layernorm.weight.detach().clone(), persistent=False)
        for part, names in (("self_attn", ATTENTION), ("mlp", MLP)):
            held = getattr(source, part)
            matrices = {n: LoraLinear(getattr(held, n).weight.detach(), None, rank, alpha, dtype) for n in names}
            setattr(self, part, nn.ModuleDict(matrices))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """``x`` float32 ``[n, T, width]``; ``cos``, ``sin [n, T, head width]``; ``mask [n, 1, T, T]`` additive."""
        n, length, width = x.shape
        h = F.rms_norm(x, (width,), self.norm1, self.eps)
        q, k, v = (
            self.self_attn[f"{part}_proj"](h).view(n, length, -1, self.head_width).transpose(1, 2) for part in "qkv"
        )
        q, k = (_turned(part, cos[:, None], sin[:, None]).to(v.dtype) for part in (q, k))
        attended = attend(q, k, v, mask).transpose(1, 2).reshape(n, length, width)
        x = x + self.self_attn["o_proj"](attended).float()
        h = F.rms_norm(x, (width,), self.norm2, self.eps)
        return x + self.mlp["down_proj"](F.silu(self.mlp["gate_proj"](h)) * self.mlp["up_proj"](h)).float()


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position: the halves of a head are the two coordinates that are turned."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


class Language(nn.Module):
    """Frozen language model with trainable LoRA."""

    words: Tensor
    norm: Tensor

    def __init__(self, source: Any, *, rank: int, alpha: float, dtype: torch.dtype) -> None:
        """``source``: transformers' model (``LlamaForCausalLM``, tied embeddings)."""
        super().__init__()
        self.layers = nn.ModuleList(Layer(layer, rank, alpha, dtype) for layer in source.model.layers)
        self.rotary, self.eps, self.dtype = source.model.rotary_emb, source.model.norm.variance_epsilon, dtype
        self.register_buffer("words", source.lm_head.weight.detach().clone(), persistent=False)
        self.register_buffer("words_cast", self.words.to(dtype), persistent=False)
        self.register_buffer("norm", source.model.norm.weight.detach().clone(), persistent=False)

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids → word embeddings, float32."""
        return F.embedding(ids, self.words)

    def forward(self, x: Tensor, position: Tensor, seen: Tensor) -> Tensor:
        """Embeddings ``[n, T, width]``, positions ``[n, T]``, ``seen [n, 1, T, T]`` → last hidden states."""
        cos, sin = self.rotary(x, position)
        mask = additive(seen)
        for layer in self.layers:
            x = layer(x, cos, sin, mask)
        return F.rms_norm(x, (x.shape[-1],), self.norm, self.eps)

    def loras(self) -> dict[str, LoraLinear]:
        """``language.layers.{i}.self_attn.q_proj`` … → the layers that carry LoRA, as the deltas file names them."""
        return {
            f"language.layers.{index}.{part}.{name}": cast("LoraLinear", getattr(layer, part)[name])
            for index, layer in enumerate(self.layers)
            for part, names in (("self_attn", ATTENTION), ("mlp", MLP))
            for name in names
        }

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits over the vocabulary, float32; the product is computed in the blocks' type."""
        words = cast("Tensor", self.words_cast)
        return F.linear(hidden.to(words.dtype), words).float()


def load_language(gguf: Path, *, rank: int, alpha: float, bf16: bool) -> tuple[Language, PreTrainedTokenizerBase]:
    """The model with fresh LoRA (it changes nothing yet), and its tokenizer."""
    source = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = Language(source, rank=rank, alpha=alpha, dtype=torch.bfloat16 if bf16 else torch.float32)
    return model, cast("PreTrainedTokenizerBase", tokenizer)
