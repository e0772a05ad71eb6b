"""Reads a PEFT adapter; what it holds is either understood or refused by its name.

A fine-tune that is silently left out is the classic failure of converters (llama.cpp issues 14867, 17264).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from facellm_converters.checkpoint.json_file import read_json
from facellm_converters.checkpoint.tensors import Tensors, opened_file, some
from facellm_converters.errors import BadCheckpoint, Unsupported
from facellm_converters.layouts.names import plain
from facellm_converters.layouts.specs import Config
from facellm_converters.lora.whole import Whole, whole

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_PREFIX = re.compile(r"^base_model\.model\.")
#: With or without the adapter's own name; not the bias that ``lora_bias`` trains.
_MATRIX = re.compile(r"^(.*)\.lora_(embedding_)?([AB])(?:\.(?!weight$|bias$)[^.]+)?(?:\.weight)?$")
#: Around weights that are saved whole: trained ones, and the table below an adapter of the embeddings.
_SAVED = re.compile(r"\.modules_to_save\.[^.]+\.|\.modules_to_save\.|\.base_layer\.")
#: Ways of training that change more than a product of two matrices, by the configuration's switch.
_OTHERS = {
    "use_dora": "DoRA",
    "use_qalora": "QALoRA",
    "use_bdlora": "BD-LoRA",
    "trainable_token_indices": "single tokens",
    "lora_bias": "biases of its matrices (lora_bias)",
    "alora_invocation_tokens": "aLoRA",
    "arrow_config": "Arrow",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
    "layer_replication": "copied layers (layer_replication)",
    "target_parameters": "bare parameters (target_parameters)",
}
#: ``init_lora_weights`` that take their matrices' product out of the base: without that base the sum is another one.
_ALTER_BASE = ("pissa", "corda", "olora", "loftq", "lora_ga")

_FIRST = "Merge it with PEFT first."

Matrix = NDArray[np.float32]
Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class Lora:
    """``change = scale · b @ a``: ``a`` is ``[r, in]``, ``b`` ``[out, r]``."""

    a: Matrix
    b: Matrix
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        """Of the weight that it changes."""
        return self.b.shape[0], self.a.shape[1]

    def rows(self, start: int, stop: int | None) -> Matrix:
        """The change of rows ``start:stop``."""
        return np.float32(self.scale) * (self.b[start:stop] @ self.a)


@dataclass(frozen=True, slots=True)
class Adapter:
    """``loras`` and ``saved`` (weights that replace the base's) by the weight's plain name, see ``layouts.names``."""

    folder: Path
    loras: Mapping[str, Lora]
    saved: Mapping[str, Whole]
    provenance: Mapping[str, str]
    digest: str

    @property
    def touches_vision(self) -> bool:
        """Whether it changes the image tower or the projector."""
        return any(not name.startswith(("language_model.", "lm_head.")) for name in (*self.loras, *self.saved))


def read_adapter(folder: Path) -> Adapter:
    """The adapter that PEFT saved in ``folder``. Raises ``BadCheckpoint`` or ``Unsupported``."""
    config = read_json(folder / CONFIG)
    _check_kind(folder, config)
    found = _Read({}, {}, {})
    with opened_file(folder / WEIGHTS) as tensors:
        for stored in tensors.infos:
            found.take(stored, tensors)
    if not found.pairs and not found.saved:
        raise BadCheckpoint(f"{WEIGHTS} of {folder.name} is empty.", "Save the adapter again.")
    loras = {name: _lora(name, found.modules[name], pair, config) for name, pair in sorted(found.pairs.items())}
    with (folder / WEIGHTS).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Adapter(folder, loras, found.saved, _provenance(config, len(loras)), digest)


@dataclass(frozen=True, slots=True)
class _Read:
    """What the file holds, by plain names; ``modules``: what PEFT calls each."""

    pairs: dict[str, dict[str, Matrix]]
    modules: dict[str, str]
    saved: dict[str, Whole]

    def take(self, stored: str, tensors: Tensors) -> None:
        name = _PREFIX.sub("", stored)
        matrix = _MATRIX.match(name)
        if matrix:
            target = plain(f"{matrix[1]}.weight")
            self.modules[target] = matrix[1]
            values = tensors.read(stored)
            _check_numbers(values, stored)
            _put(self.pairs.setdefault(target, {}), f"{matrix[2] or ''}{matrix[3]}", values, stored)
        elif "lora_" in name:
            raise Unsupported(f"The adapter holds {stored}, which is not known here.", _FIRST)
        else:
            kept = whole(tensors, stored)
            for _, piece in kept.pieces():
                _check_numbers(piece, stored)
            _put(self.saved, plain(_SAVED.sub(".", name)), kept, stored)


def _check_numbers(values: Matrix, stored: str) -> None:
    if not np.isfinite(values).all():
        raise BadCheckpoint(f"{stored} holds values that are not numbers.", "Its training diverged.")


def _put(into: dict[str, Kept], key: str, values: Kept, stored: str) -> None:
    if key in into:
        raise BadCheckpoint(f"{stored} is in the adapter twice, under two names.", "Save one adapter alone.")
    into[key] = values


def _check_kind(folder: Path, config: Config) -> None:
    kind = str(config.get("peft_type", "unknown"))
    if kind != "LORA":
        raise Unsupported(f"The adapter is of the kind {kind}; LORA is supported.", _FIRST)
    others = [name for switch, name in _OTHERS.items() if config.get(switch)]
    if others:
        raise Unsupported(f"The adapter uses {' and '.join(others)}, which is not merged here.", _FIRST)
    start = str(config.get("init_lora_weights")).lower()
    if start.startswith(_ALTER_BASE):
        raise Unsupported(
            f"The adapter belongs to a base that its beginning ({start}) changed, not to the published one.",
            "Save it with PEFT's path_initial_model_for_weight_conversion, or merge it with PEFT first.",
        )
    if config.get("bias", "none") != "none":
        raise Unsupported(f"The adapter changes biases (bias = {config['bias']!r}).", _FIRST)
    if not (folder / WEIGHTS).is_file():
        pickles = sorted(path.name for path in folder.glob("*.bin"))
        raise BadCheckpoint(
            f"{folder} has no {WEIGHTS}" + (f", only {pickles[0]}, a pickle, which can run code." if pickles else "."),
            "Save the adapter again with safe_serialization=True.",
        )


def _lora(name: str, module: str, pair: Mapping[str, Matrix], config: Config) -> Lora:
    if pair.keys() == {"A", "B"}:
        a, b = pair["A"], pair["B"]
    elif pair.keys() == {"embedding_A", "embedding_B"}:  # of a table: rows are looked up, so that it is transposed
        a, b = pair["embedding_B"].T, pair["embedding_A"].T
    else:
        raise BadCheckpoint(f"The adapter has {some(sorted(pair))} of {name} and not the other.", "Save it again.")
    if config.get("fan_in_fan_out"):
        raise Unsupported("The adapter was made for transposed weights (fan_in_fan_out).", _FIRST)
    if a.ndim == 4:
        raise Unsupported(f"The adapter changes a convolution, {module}.", _FIRST)
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        raise BadCheckpoint(f"{name}: A is {a.shape} and B is {b.shape}; they do not fit.", "Save the adapter again.")
    return Lora(a, b, _scale(module, a.shape[0], config))


def _scale(module: str, rank: int, config: Config) -> float:
    alpha = _by_pattern(config.get("alpha_pattern"), module, config.get("lora_alpha"))
    wanted = _by_pattern(config.get("rank_pattern"), module, config.get("r"))
    if not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise BadCheckpoint(f"{CONFIG} says lora_alpha = {alpha!r}.", "Save the adapter again.")
    if wanted != rank:
        raise BadCheckpoint(f"{module} has rank {rank}; {CONFIG} says {wanted}.", "Weights and configuration differ.")
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_pattern(patterns: object, module: str, otherwise: object) -> object:
    """PEFT's rule: the first pattern that is the end of the module's name, by the name that PEFT knows it by."""
    for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return otherwise


def _provenance(config: Config, count: int) -> dict[str, str]:
    targets = config.get("target_modules")
    found = {
        "base": str(config.get("base_model_name_or_path") or ""),
        "rank": str(config.get("r")),
        "alpha": str(config.get("lora_alpha")),
        "targets": ", ".join(sorted(targets)) if isinstance(targets, list) else str(targets or ""),
        "matrices": str(count),
    }
    return {key: value for key, value in found.items() if value and not Path(value).is_absolute()}
