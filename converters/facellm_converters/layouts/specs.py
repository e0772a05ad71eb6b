"""Dimensions of a model's two parts, read from config.json and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from facellm_converters.errors import BadCheckpoint, Unsupported

#: ``model_type`` of a language part → llama.cpp's architecture.
LANGUAGES = {"qwen2": "qwen2", "qwen3": "qwen3", "llama": "llama"}

#: Activations of the image towers that llama.cpp has, by config.json's word.
ACTIVATIONS = ("gelu", "quick_gelu", "silu")

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How positions beyond the trained ones are reached; ``kind``: "linear" or "yarn" (``extra``: its numbers)."""

    kind: str
    factor: float
    original_context: int | None = None
    extra: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TextSpec:
    """A decoder of Qwen2's, Qwen3's or Llama's kind: RMS norm, gated SiLU, rotary positions, grouped keys."""

    architecture: str
    layers: int
    width: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    context: int
    vocabulary: int
    tied: bool


@dataclass(frozen=True, slots=True)
class VisionSpec:
    """An image tower and its projector.

    ``tower``: "intern" (LayerNorm or RMS, layer scales) or "clip". ``layers``: those that are used. ``image`` and
    ``patch``: pixels. ``shuffle``: patches a side that become one token (1: none). ``tokens``: of one tile.
    ``mean``, ``std``: of RGB in 0…1. ``class_token``: how llama.cpp wants its tables, see ``write``.
    """

    tower: str
    layers: int
    width: int
    ffn: int
    heads: int
    eps: float
    image: int
    patch: int
    activation: str
    shuffle: int
    projection: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rms: bool = False
    qk_norm: bool = False

    @property
    def patches(self) -> int:
        """Patches of one tile."""
        return (self.image // self.patch) ** 2

    @property
    def tokens(self) -> int:
        """Tokens of one tile."""
        return self.patches // self.shuffle**2


def text_spec(config: Config) -> TextSpec:
    """Of a ``text_config`` (or ``llm_config``). Raises ``Unsupported`` or ``BadCheckpoint``."""
    kind = str(config.get("model_type", ""))
    if kind not in LANGUAGES:
        raise Unsupported(
            f"The language part is of the kind {kind or 'unknown'}; {', '.join(LANGUAGES)} are supported.",
            "Use a FaceLLM, InternVL3 or InternVL3.5 checkpoint, or LLaVA 1.5.",
        )
    if config.get("use_sliding_window"):
        raise Unsupported("The language part uses a sliding window, which is not converted here.")
    heads = number(config, "num_attention_heads")
    width = number(config, "hidden_size")
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    theta: Any = rope.get("rope_theta", config.get("rope_theta", 10000.0))
    return TextSpec(
        LANGUAGES[kind], number(config, "num_hidden_layers"), width, number(config, "intermediate_size"), heads,
        int(config.get("num_key_value_heads") or heads), int(config.get("head_dim") or width // heads),
        float(config.get("rms_norm_eps", 1e-6)), float(theta), _scaling(rope, config),
        number(config, "max_position_embeddings"), number(config, "vocab_size"),
        bool(config.get("tie_word_embeddings", False)),
    )  # fmt: skip


def _scaling(rope: Config, config: Config) -> RopeScaling | None:
    kind = str(rope.get("rope_type", rope.get("type", "default")))
    if kind == "default":
        return None
    if kind == "dynamic" and config.get("model_type") == "qwen2":
        # Dynamic scaling changes nothing within the trained context, and beyond it InternVL3 is not asked.
        return None
    if kind not in ("linear", "yarn"):
        raise Unsupported(
            f"The language part scales its positions by a rule called {kind}, which is not known here.",
            "linear, yarn and dynamic are supported.",
        )
    names = {"extrapolation_factor", "attention_factor", "beta_fast", "beta_slow"}
    extra = {name: float(rope[name]) for name in sorted(names) if rope.get(name) is not None}
    original = rope.get("original_max_position_embeddings", config.get("original_max_position_embeddings"))
    if kind == "yarn" and original is None:
        original = number(config, "max_position_embeddings")
    return RopeScaling(kind, float(rope["factor"]), original and int(original), extra)


def number(config: Config, name: str) -> int:
    """A positive whole number of a configuration. Raises ``BadCheckpoint``."""
    value = config.get(name)
    if isinstance(value, list):  # image sides are given twice
        value = value[0] if value and all(one == value[0] for one in value) else None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BadCheckpoint(
            f"config.json says {name} = {config.get(name)!r}; a whole number above 0 was expected.",
            "Fetch the checkpoint's config.json again.",
        )
    return value


def triple(values: Any, name: str) -> tuple[float, float, float]:
    """Three numbers, one for each colour. Raises ``BadCheckpoint``."""
    if not isinstance(values, list) or len(values) != 3 or not all(isinstance(one, int | float) for one in values):
        raise BadCheckpoint(
            f"preprocessor_config.json says {name} = {values!r}; three numbers were expected.",
            "Fetch the checkpoint's preprocessor_config.json again.",
        )
    return (float(values[0]), float(values[1]), float(values[2]))
