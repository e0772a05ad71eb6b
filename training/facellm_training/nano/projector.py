"""From patch tokens to the language model's embedding space, as llama.cpp's ``nemotron_v2_vl`` graph computes it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RMS_EPS = 1e-6
INPUT = 3072
OUTPUT = 576
#: Mean L2 norm of SmolLM2-135M's token embeddings: image tokens start at the same length.
EMBEDDING_NORM = 3.2


class Projector(nn.Module):
    """RMS norm with gain → linear → squared ReLU → linear; no biases. ``[…, 49, 3072]`` → ``[…, 49, 576]``."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.Parameter(torch.ones(INPUT))
        self.fc1 = nn.Parameter(torch.randn(OUTPUT, INPUT) / INPUT**0.5)
        self.fc2 = nn.Parameter(torch.randn(OUTPUT, OUTPUT) / OUTPUT**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.relu(F.linear(self.normed(x), self.fc1)).square(), self.fc2)

    def normed(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + RMS_EPS) * self.norm

    @torch.no_grad()
    def start_from(self, sample: Tensor) -> None:
        """Scale the random start to the data: inputs standardised, outputs as long as word embeddings.

        Without biases the mean of the inputs cannot be subtracted, so the rows of ``fc1`` are made
        orthogonal to it instead. ``sample``: ``[n, 49, 3072]``.
        """
        flat = sample.reshape(-1, INPUT)
        flat = flat * torch.rsqrt(flat.pow(2).mean(-1, keepdim=True) + RMS_EPS)
        spread = flat.std(0) + 1e-3
        self.norm.copy_(1 / spread)
        mean = (flat / spread).mean(0)
        self.fc1.sub_(torch.outer(self.fc1 @ mean, mean) / (mean @ mean))
        self.scale_to_words(sample)

    @torch.no_grad()
    def scale_to_words(self, sample: Tensor) -> None:
        """Make the outputs for ``sample [n, 49, 3072]`` as long, in the mean, as word embeddings."""
        self.fc2.mul_(EMBEDDING_NORM / self(sample).norm(dim=-1).mean())
