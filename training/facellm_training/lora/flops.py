"""How much arithmetic training needs, and what share of a device's peak that is.

Counted is what the method needs, not what an implementation does: two operations a weight and token forward, two more
where the gradient passes through, two more for weights that are trained; the head at the places that carry loss;
attention within each conversation, causal in the language model. Padding, blocks computed again (gradient
checkpointing) and masked attention count nothing, so that the number compares implementations.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from facellm_training.lora.model import PARTS

#: Dense bfloat16 with float32 sums, operations a second; NVIDIA's data sheets, their figures with sparsity halved. By
#: the end of the device's name, or with ``_ANY`` behind it by words in it: data centre cards have their memory and
#: form behind theirs, and a GeForce with a word behind it ("Ti", "D", "Laptop GPU") is another card.
_ANY = r"\b.*"
PEAKS = (
    ("B200" + _ANY, 2250e12, "https://www.nvidia.com/en-us/data-center/hgx/"),
    ("H200 NVL", 835.5e12, "https://www.nvidia.com/en-us/data-center/h200/"),
    ("H200" + _ANY, 989.4e12, "https://www.nvidia.com/en-us/data-center/h200/"),
    ("H100 PCIe", 756e12, "https://www.nvidia.com/en-us/data-center/h100/"),
    ("H100 NVL", 835e12, "https://www.nvidia.com/en-us/data-center/h100/"),
    ("H100" + _ANY, 989.4e12, "https://www.nvidia.com/en-us/data-center/h100/"),
    ("A100" + _ANY, 312e12, "https://www.nvidia.com/en-us/data-center/a100/"),
    ("L40S", 362e12, "https://www.nvidia.com/en-us/data-center/l40s/"),
    ("L4", 121e12, "https://www.nvidia.com/en-us/data-center/l4/"),
    ("A10", 125e12, "https://www.nvidia.com/en-us/data-center/products/a10-gpu/"),
    ("RTX A6000", 154.8e12, "NVIDIA GA102 GPU architecture, whitepaper, appendix A"),
    ("RTX 5090", 209.5e12, "NVIDIA RTX Blackwell GPU architecture, whitepaper, appendix A"),
    ("RTX 4090", 165.2e12, "NVIDIA Ada GPU architecture, whitepaper, appendix A"),
    ("RTX 3090", 71e12, "NVIDIA GA102 GPU architecture, whitepaper, appendix A"),
)


def peak(device: str) -> tuple[float, str] | None:
    """Operations a second and their source for a device's name; none for an unknown one, and for a part of a card
    (MIG), whose share of the peak its name does not say."""
    if " MIG " in device:
        return None
    return next(((rate, source) for name, rate, source in PEAKS if re.search(rf"\b{name}$", device)), None)


@dataclass(frozen=True, slots=True)
class Work:
    """Operations of training: ``token``: one token through the language model's layers; ``head``: one place with loss;
    ``pair``: one query and key; ``picture``: one through tower and projector."""

    token: float
    head: float
    pair: float
    picture: float

    def of(self, lengths: Sequence[int], supervised: int, pictures: int) -> float:
        """Of conversations of ``lengths`` tokens, ``supervised`` places with loss and ``pictures``."""
        pairs = sum(length * (length + 1) / 2 for length in lengths)
        return self.token * sum(lengths) + self.pair * pairs + self.head * supervised + self.picture * pictures


def work(model: Any) -> Work:
    """For PEFT's model; weights in 4 bits are not counted right."""
    config = model.get_base_model().config
    vision, text = config.vision_config, config.text_config
    counts = _matrices(model)
    back = _passes(counts)
    side, patch = (value if isinstance(value, int) else value[0] for value in (vision.image_size, vision.patch_size))
    patches = (side // patch) ** 2
    tokens = round(patches * config.downsample_ratio**2)
    width = text.num_attention_heads * (getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)
    stem = 2 * patches * vision.hidden_size * 3 * patch**2
    attention = 4 * (patches + 1) ** 2 * vision.hidden_size * vision.num_hidden_layers
    tower = _matmuls(counts["image_tower"], back["image_tower"]) * (patches + 1) + stem
    picture = tower + attention * (3 if back["image_tower"] else 1)
    picture += _matmuls(counts["projector"], back["projector"]) * tokens
    return Work(
        token=_matmuls(counts["language"], back["language"]),
        head=4.0 * text.hidden_size * text.vocab_size,
        pair=3 * 4.0 * width * text.num_hidden_layers,
        picture=float(picture),
    )


def _matrices(model: Any) -> dict[str, tuple[int, int]]:
    """Weights of the linear layers of each part: (frozen, trained)."""
    found = dict.fromkeys(PARTS, (0, 0))
    for name, values in model.named_parameters():
        part = next((part for part, prefix in PARTS.items() if f".{prefix}." in name), None)
        original = ".original_module." in name  # of a projector that is trained whole: never computed
        if part is None or values.ndim != 2 or "embed_tokens" in name or original:
            continue
        frozen, trained = found[part]
        size = values.numel()
        found[part] = (frozen, trained + size) if values.requires_grad else (frozen + size, trained)
    return found


def _passes(counts: dict[str, tuple[int, int]]) -> dict[str, bool]:
    """Whether the gradient passes through a part's frozen weights."""
    tower = counts["image_tower"][1] > 0
    return {"image_tower": tower, "projector": tower or counts["projector"][1] > 0, "language": True}


def _matmuls(count: tuple[int, int], back: bool) -> float:
    frozen, trained = count
    return (4.0 if back else 2.0) * frozen + 6.0 * trained
