"""The nano's image tower in PyTorch: frozen lower blocks, LoRA on the upper ones."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from facellm.models.nano import clip_onnx
from facellm_training.nano.attention import attend

TOKENS = (clip_onnx.IMAGE_SIZE // clip_onnx.PATCH_SIZE) ** 2 + 1


class LoraLinear(nn.Module):
    """A frozen linear layer, computed in ``dtype``, plus a low-rank update ``scale · B·A``."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, rank: int, alpha: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("weight", weight.to(dtype), persistent=False)
        self.register_buffer("bias", None if bias is None else bias.to(dtype), persistent=False)
        self.scale = alpha / rank if rank else 0.0
        if rank:
            self.a = nn.Parameter(torch.randn(rank, weight.shape[1]) / math.sqrt(weight.shape[1]))
            self.b = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.weight.dtype)
        out = F.linear(x, self.weight, self.bias)
        if self.scale:
            out = out + F.linear(F.linear(x, self.a.to(x.dtype)), (self.scale * self.b).to(x.dtype))
        return out


class Block(nn.Module):
    """One pre-norm transformer block of CLIP (quick GELU). The residual stream stays float32."""

    layer_norm1_w: Tensor
    layer_norm1_b: Tensor
    layer_norm2_w: Tensor
    layer_norm2_b: Tensor
    linear: nn.ModuleDict

    MATRICES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")

    def __init__(self, weights: clip_onnx.Weights, index: int, rank: int, alpha: float, dtype: torch.dtype) -> None:
        super().__init__()
        prefix = f"encoder.layers.{index}."

        def tensor(name: str) -> Tensor:
            return torch.from_numpy(weights[prefix + name].copy())

        for norm in ("layer_norm1", "layer_norm2"):
            self.register_buffer(norm + "_w", tensor(norm + ".weight"), persistent=False)
            self.register_buffer(norm + "_b", tensor(norm + ".bias"), persistent=False)
        self.linear = nn.ModuleDict(
            {
                name.replace(".", "_"): LoraLinear(tensor(name + ".weight"), tensor(name + ".bias"), rank, alpha, dtype)
                for name in self.MATRICES
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """``x``: float32 ``[batch, 197, 768]``."""
        batch, tokens, width = x.shape
        h = F.layer_norm(x, (width,), self.layer_norm1_w, self.layer_norm1_b, clip_onnx.LAYER_NORM_EPS)
        q, k, v = (
            self.linear[f"self_attn_{part}_proj"](h)
            .view(batch, tokens, clip_onnx.HEADS, width // clip_onnx.HEADS)
            .transpose(1, 2)
            for part in "qkv"
        )
        attended = attend(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
        x = x + self.linear["self_attn_out_proj"](attended).float()
        h = F.layer_norm(x, (width,), self.layer_norm2_w, self.layer_norm2_b, clip_onnx.LAYER_NORM_EPS)
        h = self.linear["mlp_fc1"](h)
        return x + self.linear["mlp_fc2"](h * torch.sigmoid(1.702 * h)).float()


class Tower(nn.Module):
    """Blocks ``first``..10 of the tower; with ``first == 0`` also the patch embedding."""

    class_token: Tensor
    patch: Tensor
    position: Tensor
    pre_w: Tensor
    pre_b: Tensor

    def __init__(
        self,
        weights: clip_onnx.Weights,
        *,
        first: int = 0,
        last: int = clip_onnx.BLOCKS,
        rank: int = 0,
        alpha: float = 16.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.first = first
        self.blocks = nn.ModuleDict({str(i): Block(weights, i, rank, alpha, dtype) for i in range(first, last)})
        for name, key in (
            ("class_token", "embeddings.class_embedding"),
            ("patch", "embeddings.patch_embedding.weight"),
            ("position", "embeddings.position_embedding.weight"),
            ("pre_w", "pre_layrnorm.weight"),
            ("pre_b", "pre_layrnorm.bias"),
        ):
            self.register_buffer(name, torch.from_numpy(weights[key].copy()), persistent=False)

    def embed(self, pixels: Tensor) -> Tensor:
        """Normalised pixels ``[batch, 3, 224, 224]`` → residual stream ``[batch, 197, 768]``."""
        patches = F.conv2d(pixels, self.patch, stride=clip_onnx.PATCH_SIZE).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(pixels), 1, -1), patches], 1) + self.position
        return F.layer_norm(x, (x.shape[-1],), self.pre_w, self.pre_b, clip_onnx.LAYER_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Residual stream before block ``first`` → residual stream after the last block held."""
        for block in self.blocks.values():
            x = block(x)
        return x


def tower_loras(tower: Tower) -> dict[str, LoraLinear]:
    """``tower.layers.{i}.{matrix}`` → the layers that carry LoRA, under the names of the deltas file."""
    found: dict[str, LoraLinear] = {}
    for index, block in tower.blocks.items():
        assert isinstance(block, Block)
        for name in Block.MATRICES:
            lora = block.linear[name.replace(".", "_")]
            if isinstance(lora, LoraLinear) and lora.scale:
                found[f"tower.layers.{index}.{name}"] = lora
    return found


def normalise(images: NDArray[np.uint8]) -> Tensor:
    """uint8 RGB ``[batch, 224, 224, 3]`` → CLIP-normalised float32 ``[batch, 3, 224, 224]``."""
    x = torch.tensor(images).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor(clip_onnx.IMAGE_MEAN)[:, None, None]
    std = torch.tensor(clip_onnx.IMAGE_STD)[:, None, None]
    return (x - mean) / std


def pixel_shuffle(x: Tensor) -> Tensor:
    """Drop the class token and join 2×2 patches: ``[batch, 197, 768]`` → ``[batch, 49, 3072]``.

    The order inside a token is (dy, dx, channel): llama.cpp's ``nemotron_v2_vl`` graph.
    """
    batch, side = x.shape[0], clip_onnx.IMAGE_SIZE // clip_onnx.PATCH_SIZE
    grid = x[:, 1:].reshape(batch, side // 2, 2, side // 2, 2, x.shape[-1])
    return grid.permute(0, 1, 3, 2, 4, 5).reshape(batch, (side // 2) ** 2, 4 * x.shape[-1])
