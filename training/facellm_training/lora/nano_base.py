"""The embedded model for transformers: InternVL's forward pass around CLIP's tower, the nano's projector and Llama.

Modules and weights have the names of the checkpoint's tensors, so that PEFT's adapters fit it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import CLIPVisionConfig, InternVLConfig, InternVLForConditionalGeneration, LlamaConfig
from transformers.activations import ACT2FN

from facellm_training.lora.template import Marks

#: No token stands around a picture's own. Theirs is one of SmolLM2's for program files, which the nano was never
#: taught: its embedding is always replaced.
NANO_MARKS = Marks("", "<empty_output>", "")


class Projector(nn.Module):
    """RMS norm → linear → squared ReLU → linear, without biases: ``[pictures, tokens, into]`` → ``[…, out]``."""

    def __init__(self, into: int, out: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(into, eps)
        self.fc1 = nn.Linear(into, out, bias=False)
        self.act = ACT2FN["relu2"]
        self.fc2 = nn.Linear(out, out, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.fc2(self.act(self.fc1(self.norm(features))))
        return found


class Nano(InternVLForConditionalGeneration):  # type: ignore[misc]
    """``config``: as :func:`nano_config` gives it."""

    def __init__(self, config: InternVLConfig) -> None:
        super().__init__(config)
        into = config.vision_config.hidden_size * round(1 / config.downsample_ratio) ** 2
        self.model.multi_modal_projector = Projector(into, config.text_config.hidden_size, config.projector_norm_eps)
        self.model.vision_tower.post_layernorm = nn.Identity()  # of CLIP's pooled output, which nothing reads


def nano_config(folder: Path) -> InternVLConfig:
    """Of the checkpoint in ``folder``. Raises ``OSError``, ``ValueError`` or ``KeyError`` where it is not whole."""
    about = json.loads((folder / "config.json").read_text("utf-8"))
    vision = dict(about["vision_config"])
    vision["num_hidden_layers"] += 1 + int(about.get("vision_feature_layer", -2))  # LLaVA's, where it does not say
    place = Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id(NANO_MARKS.place)
    if place is None:
        raise ValueError(f"its tokenizer lacks {NANO_MARKS.place}, which stands for a picture's tokens")
    config = InternVLConfig(
        vision_config=CLIPVisionConfig(**vision), text_config=LlamaConfig(**about["text_config"]),
        image_token_id=place, downsample_ratio=about.get("downsample_ratio", 0.5),
        projector_hidden_act="relu2", tie_word_embeddings=bool(about["text_config"].get("tie_word_embeddings", False)),
    )  # fmt: skip
    config.projector_norm_eps = float(about.get("projector_norm_eps", 1e-6))
    return config


def load_nano(folder: Path, **options: Any) -> Any:
    """``options``: of transformers' ``from_pretrained``."""
    return Nano.from_pretrained(folder, config=nano_config(folder), **options)
