"""A checkpoint folder to a pair of GGUF files and a card: planned, written under another name, then put in place."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facellm_converters.card import file_sha256, write_card
from facellm_converters.errors import ConversionError, Unsupported
from facellm_converters.layouts.checkpoint import Checkpoint, Merge, open_checkpoint
from facellm_converters.lora.adapter import Adapter, read_adapter
from facellm_converters.lora.gguf_adapter import write_adapter_gguf
from facellm_converters.lora.merge import merging
from facellm_converters.place import Names, check_absent, publish, workplace
from facellm_converters.progress import Steps, Tell
from facellm_converters.provenance import about_model, file_name
from facellm_converters.tokenizer.vocabulary import Vocabulary, read_vocabulary
from facellm_converters.write import fields, kinds
from facellm_converters.write.kquants import K_TYPES, quantise
from facellm_converters.write.plan import Piece, check_once, text_pieces, vision_pieces
from facellm_converters.write.stream import Written, new_writer, total, write_file

#: ``quant`` of the language part, and of the image part.
TEXT_KINDS = (*fields.FILE_TYPES, *K_TYPES)
VISION_KINDS = ("F32", "F16", "BF16", "Q8_0")

#: The canary's picture, see ``facellm.core.canary``, and what gives its embedding ``[tokens, width]``.
CANARY_PICTURE = "waves-1"
Canary = Callable[[Checkpoint], NDArray[np.float32]]

#: How a checkpoint's own kind is named as a file's.
_EXACT = {"F32": "F32", "F16": "F16", "BF16": "BF16"}


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for. ``split``: bytes of a shard of the language part, 0 for one file."""

    checkpoint: Path
    out: Path
    quant: str = "Q8_0"
    mmproj_quant: str = "F16"
    adapter: Path | None = None
    keep_adapter: bool = False
    name: str = ""
    licence: str = ""
    split: int = 0
    force: bool = False
    threads: int = max(1, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Converted:
    """The files that were written; ``language`` is the first of its shards."""

    language: Path
    mmproj: Path
    adapter: Path | None
    card: Path


def convert(order: Order, tell: Tell, canary: Canary | None = None) -> Converted:
    """Write the pair and its card into ``order.out``.

    Raises ``ConversionError`` before anything is written where the checkpoint is not sound, where there is no room,
    or where ``out`` holds such files already. An error or Ctrl-C later leaves ``out`` as it was.
    """
    _check_order(order)
    adapter, merge = _adapter(order)
    with ExitStack() as stack:
        checkpoint = stack.enter_context(open_checkpoint(order.checkpoint, merge))
        plan = _Plan(order, checkpoint, adapter, merged=merge is not None)
        steps = Steps(tell, plan.work())
        work = stack.enter_context(workplace(order.out, plan.names, plan.space()))
        eyes = plan.write_vision(work, steps, canary)
        files = plan.write_text(work, steps)
        kept = plan.write_adapter(work) if order.keep_adapter else None
        write_card(work / plan.names.card, checkpoint, plan.about, [*files, *eyes])
        placed = publish(work, order.out, force=order.force)
    language, mmproj, card = (placed[name] for name in (files[0].path.name, plan.names.mmproj, plan.names.card))
    return Converted(language, mmproj, placed[kept.name] if kept else None, card)


class _Plan:
    """All that is known before the first byte is written; making it checks everything that can be checked by then."""

    def __init__(self, order: Order, checkpoint: Checkpoint, adapter: Adapter | None, *, merged: bool) -> None:
        self.order, self.checkpoint, self.adapter = order, checkpoint, adapter
        self.about = about_model(checkpoint, adapter, order.name, order.licence)
        self.names = Names(file_name(self.about.name), order.quant, order.mmproj_quant)
        check_absent(order.out, self.names, force=order.force)
        self.vocabulary: Vocabulary = read_vocabulary(order.checkpoint, checkpoint.text.vocabulary)
        self.first = _first_kind(order.quant, checkpoint, merged=merged)
        self.text = list(text_pieces(checkpoint, getattr(kinds, self.first)))
        self.vision = list(vision_pieces(checkpoint, getattr(kinds, order.mmproj_quant)))
        check_once([*self.text, *self.vision])

    def work(self) -> dict[str, int]:
        """Bytes of each step."""
        found = {"image part": _bytes(self.vision), "language part": _bytes(self.text)}
        if self.order.quant in K_TYPES:
            found["quantising"] = int(_bytes(self.text) * K_TYPES[self.order.quant].share(self.first))
        return found

    def space(self) -> int:
        """Bytes that the disk must have while the work goes on."""
        return sum(self.work().values())

    def write_vision(self, work: Path, steps: Steps, canary: Canary | None) -> list[Written]:
        embedding = None
        if canary is not None:
            steps.begin("self-test picture")
            # llama.cpp's llava graph leaves the first patch out; one that no longer does would need another table.
            first = 1 if self.checkpoint.kind == "llava" else 0
            embedding = (CANARY_PICTURE, canary(self.checkpoint)[first : first + fields.CANARY_TOKENS])
        writer = new_writer("clip")
        fields.vision_fields(writer, self.checkpoint, self.about, self.order.mmproj_quant, embedding)
        path, threads = work / self.names.mmproj, self.order.threads
        return write_file(writer, path, self.checkpoint, self.vision, threads, steps.begin("image part"))

    def write_text(self, work: Path, steps: Steps) -> list[Written]:
        quant, threads = self.order.quant, self.order.threads
        second = quant in K_TYPES
        writer = new_writer(self.checkpoint.text.architecture, self.order.split)
        fields.text_fields(writer, self.checkpoint, self.about, self.first)
        self.vocabulary.write(writer)
        path = work / (self.names.between if second else self.names.language)
        files = write_file(writer, path, self.checkpoint, self.text, threads, steps.begin("language part"))
        if not second:
            return files
        out = work / self.names.language
        quantise(files[0].path, out, quant, threads, steps.begin("quantising"))
        files[0].path.unlink()
        return [Written(out, file_sha256(out))]

    def write_adapter(self, work: Path) -> Path:
        assert self.adapter is not None
        path = work / self.names.adapter
        write_adapter_gguf(self.adapter, self.checkpoint, path)
        return path


def _adapter(order: Order) -> tuple[Adapter | None, Merge | None]:
    """The adapter, and what merges it in unless it is kept apart."""
    if order.adapter is None:
        return None, None
    adapter = read_adapter(order.adapter)
    return adapter, None if order.keep_adapter else merging(adapter)


def _check_order(order: Order) -> None:
    for kind, known, option in (
        (order.quant, TEXT_KINDS, "--quant"), (order.mmproj_quant, VISION_KINDS, "--mmproj-quant"),
    ):  # fmt: skip
        if kind not in known:
            raise Unsupported(f"{option} {kind} is not known here.", f"One of: {', '.join(known)}.")
    if order.keep_adapter and order.adapter is None:
        raise ConversionError("--keep-adapter keeps an adapter apart, but none is given.", "Add --adapter FOLDER.")
    if order.split and order.quant in K_TYPES:
        raise Unsupported(f"--quant {order.quant} is written as one file.", "Leave --split out, or use Q8_0.")
    if order.split and order.split < fields.LEAST_SPLIT:
        raise ConversionError(f"Shards of {order.split:,} bytes are too small.", "Use 100k or more, such as 2G.")


def _first_kind(quant: str, checkpoint: Checkpoint, *, merged: bool) -> str:
    """What the language part is written as at first: for k-quants what the checkpoint is, so that nothing is lost."""
    if quant not in K_TYPES:
        return quant
    stored = checkpoint.kind_of("language_model.embed_tokens.weight")
    return "F16" if merged and stored == "BF16" else _EXACT.get(stored, "F32")  # a merged weight has more digits


def _bytes(pieces: list[Piece]) -> int:
    return sum(total(piece) for piece in pieces)
