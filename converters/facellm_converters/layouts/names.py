"""Stored names of tensors to the one name for each weight."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from facellm_converters.checkpoint.tensors import TensorInfo, some
from facellm_converters.errors import BadCheckpoint


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a weight's values are: all of a tensor, or its rows ``start:stop``."""

    name: str
    start: int = 0
    stop: int | None = None

    def shape(self, infos: Mapping[str, TensorInfo]) -> tuple[int, ...]:
        """Of the weight."""
        whole = infos[self.name].shape
        return whole if self.stop is None else (self.stop - self.start, *whole[1:])

    def rows(self, start: int, stop: int | None) -> tuple[int, int | None]:
        """Rows of the weight as rows of the tensor."""
        if self.stop is None:
            return start, stop
        return self.start + start, min(self.stop, self.start + stop) if stop is not None else self.stop


#: Tensors that hold nothing to convert: computed tables, and a mask that no answer needs.
_IDLE = re.compile(r"(rotary_emb\.inv_freq|position_ids|mask_token)$")

#: OpenGVLab's own names of InternVL, rewritten one after the other.
_OWN = (
    (re.compile(r"^vision_model\.encoder\.layers\."), "vision_tower.encoder.layer."),
    (re.compile(r"^vision_model\.embeddings\.class_embedding$"), "vision_tower.embeddings.cls_token"),
    (re.compile(r"^vision_model\.embeddings\.position_embedding$"), "vision_tower.embeddings.position_embeddings"),
    (
        re.compile(r"^vision_model\.embeddings\.patch_embedding\."),
        "vision_tower.embeddings.patch_embeddings.projection.",
    ),
    (re.compile(r"\.attn\.proj\."), ".attention.projection_layer."),
    (re.compile(r"\.attn\.(q|k)_norm\."), r".attention.\1_norm."),
    (re.compile(r"\.norm1\."), ".layernorm_before."),
    (re.compile(r"\.norm2\."), ".layernorm_after."),
    (re.compile(r"\.ls([12])$"), r".lambda_\1"),
    (re.compile(r"^mlp1\.0\."), "multi_modal_projector.layer_norm."),
    (re.compile(r"^mlp1\.1\."), "multi_modal_projector.linear_1."),
    (re.compile(r"^mlp1\.3\."), "multi_modal_projector.linear_2."),
)

#: What all layouts share: wrappers that versions of transformers put around the parts, or leave out.
_SHARED = (
    (re.compile(r"^model\.(?=language_model|vision_tower|multi_modal_projector)"), ""),
    (re.compile(r"^vision_tower\.vision_model\."), "vision_tower."),
    (re.compile(r"^language_model\.lm_head\."), "lm_head."),
    (re.compile(r"^language_model\.model\."), "language_model."),
)


def plain(name: str) -> str:
    """A stored name without the wrappers that differ between versions of transformers."""
    return _rewritten(name, _SHARED)


def shared(infos: Mapping[str, TensorInfo]) -> dict[str, Stored]:
    """Names of the ``-hf`` layout, LLaVA's and the nano's."""
    return _named(infos, plain)


def own(infos: Mapping[str, TensorInfo]) -> dict[str, Stored]:
    """Names of OpenGVLab's layout; the joined matrix of queries, keys and values becomes three."""
    found = _named(infos, lambda name: _rewritten(plain(name), _OWN))
    for name in [name for name in found if ".attn.qkv." in name]:
        stored = found.pop(name)
        rows = infos[stored.name].rows
        if rows % 3:
            raise BadCheckpoint(f"{stored.name} has {rows} rows, which are not three equal parts.")
        for part, letter in enumerate("qkv"):
            first = part * rows // 3
            renamed = name.replace(".attn.qkv.", f".attention.{letter}_proj.")
            found[renamed] = Stored(stored.name, first, first + rows // 3)
    return found


def _named(infos: Mapping[str, TensorInfo], rename: Callable[[str], str]) -> dict[str, Stored]:
    found: dict[str, Stored] = {}
    for name in infos:
        renamed = rename(name)
        if _IDLE.search(renamed):
            continue
        if renamed in found:
            raise BadCheckpoint(
                f"{name} and {found[renamed].name} are the same weight twice.",
                "The folder mixes files of two checkpoints: fetch or save it anew.",
            )
        found[renamed] = Stored(name)
    return found


def _rewritten(name: str, rules: Iterable[tuple[re.Pattern[str], str]]) -> str:
    for pattern, by in rules:
        name = pattern.sub(by, name)
    return name


def check_complete(names: Mapping[str, Stored], wanted: Iterable[str], optional: Iterable[str]) -> None:
    """Every wanted weight is there, and nothing is there that no part of the model takes. Raises ``BadCheckpoint``."""
    wanted = set(wanted)
    missing = sorted(wanted - set(names))
    if missing:
        raise BadCheckpoint(
            f"{len(missing)} of {len(wanted)} weights are missing: {some(missing)}.",
            "Is the checkpoint whole? An adapter alone goes behind --adapter.",
        )
    unused = sorted(set(names) - wanted - set(optional))
    if unused:
        stored = some([names[name].name for name in unused])
        raise BadCheckpoint(
            f"{len(unused)} tensors belong to no part that is known here: {stored}.",
            "This is another architecture than its config.json says, or a newer one.",
        )
