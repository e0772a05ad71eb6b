"""A checkpoint folder to a pair of GGUF files and a card: planned, written under another name, then put in place."""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from facellm.core.canary import PICTURE, waves
from facellm_converters.card import LLAVA_FAULT, write_card
from facellm_converters.equality.tower import image_tokens
from facellm_converters.errors import BadCheckpoint, ConversionError, Unsupported
from facellm_converters.importance.matrix import bytes_read, write_importance
from facellm_converters.importance.texts import NAME
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
from facellm_converters.write.plan import Piece, text_pieces, vision_pieces
from facellm_converters.write.split import split_file
from facellm_converters.write.stream import Written, new_writer, total, write_file

#: Steps that write nothing, or nothing that lies beside what was written before.
_MATRIX, _SHARDS = "importance matrix", "shards"

#: ``quant`` of the language part, and of the image part.
TEXT_KINDS = (*fields.FILE_TYPES, *K_TYPES)
VISION_KINDS = ("F32", "F16", "BF16", "Q8_0")


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for. ``split``: bytes of a shard of the language part, 0 for one file.

    ``self_test``: compute what the engine compares when it loads the model, and store it in the mmproj.
    ``imatrix``: weigh the quantisation of the language part by what questions and answers about faces use of it.
    """

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
    self_test: bool = True
    threads: int = max(1, os.cpu_count() or 1)
    imatrix: bool = False


@dataclass(frozen=True, slots=True)
class Converted:
    """The files that were written; ``language`` is the first of its shards.

    ``note``: what is wrong with the pair all the same, or nothing.
    """

    language: Path
    mmproj: Path
    adapter: Path | None
    card: Path
    note: str


def convert(order: Order, tell: Tell) -> Converted:
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
        if adapter is not None and order.keep_adapter:  # first, for it is small and may be refused
            write_adapter_gguf(adapter, checkpoint, work / plan.names.adapter)
        eyes = plan.write_vision(work, steps)
        files = plan.write_text(work, steps)
        write_card(work / plan.names.card, checkpoint, plan.text_about, [*files, *eyes])
        placed = publish(work, order.out, plan.names, force=order.force)
    language, mmproj, card = (placed[name] for name in (files[0].path.name, plan.names.mmproj, plan.names.card))
    note = LLAVA_FAULT if checkpoint.kind == "llava" else ""
    return Converted(language, mmproj, placed.get(plan.names.adapter), card, note)


class _Plan:
    """All that is known before the first byte is written; making it checks everything that can be checked by then."""

    def __init__(self, order: Order, checkpoint: Checkpoint, adapter: Adapter | None, *, merged: bool) -> None:
        self.order, self.checkpoint = order, checkpoint
        self.about = about_model(checkpoint, adapter, order.name, order.licence)
        self.text_about = self.about
        if order.imatrix:
            weighed = {"importance": f"mean squared inputs over questions and answers about faces ({NAME})"}
            self.text_about = replace(self.about, provenance={**self.about.provenance, **weighed})
        self.names = Names(file_name(self.about.name), order.quant, order.mmproj_quant)
        check_absent(order.out, self.names, force=order.force)
        self.vocabulary: Vocabulary = read_vocabulary(order.checkpoint, checkpoint.text.vocabulary)
        self.first = _first_kind(order.quant, checkpoint, merged=merged)
        self.text = list(text_pieces(checkpoint, getattr(kinds, self.first)))
        self.vision = list(vision_pieces(checkpoint, getattr(kinds, order.mmproj_quant)))

    def work(self) -> dict[str, int]:
        """Bytes of each step; of the importance matrix those that are read, not written."""
        found = {"image part": _bytes(self.vision), "language part": _bytes(self.text)}
        if self.order.imatrix:
            found[_MATRIX] = bytes_read(self.checkpoint)
        if self.order.quant in K_TYPES:
            found["quantising"] = int(_bytes(self.text) * K_TYPES[self.order.quant].share(self.first))
            if self.order.split:
                found[_SHARDS] = found["quantising"]
        return found

    def space(self) -> int:
        """Bytes that the disk must have while the work goes on."""
        return sum(count for step, count in self.work().items() if step not in (_MATRIX, _SHARDS))

    def write_vision(self, work: Path, steps: Steps) -> list[Written]:
        embedding = None
        if self.order.self_test:
            steps.begin("self-test picture")
            # llama.cpp's llava graph leaves the first patch out; one that no longer does would need another table.
            first = 1 if self.checkpoint.kind == "llava" else 0
            with np.errstate(all="ignore"):  # what is no number is named when it is written
                seen = image_tokens(self.checkpoint, waves(self.checkpoint.vision.image))
            embedding = (PICTURE, seen[first : first + fields.CANARY_TOKENS])
        writer = new_writer("clip")
        fields.vision_fields(writer, self.checkpoint, self.about, self.order.mmproj_quant, embedding)
        path, threads = work / self.names.mmproj, self.order.threads
        files = write_file(writer, path, self.checkpoint, self.vision, threads, steps.begin("image part"))
        if embedding is not None and not np.isfinite(embedding[1]).all():
            raise BadCheckpoint("The image part makes no numbers of a picture, though its weights are numbers.")
        return files

    def write_text(self, work: Path, steps: Steps) -> list[Written]:
        quant, threads = self.order.quant, self.order.threads
        second = quant in K_TYPES
        writer = new_writer(self.checkpoint.text.architecture, 0 if second else self.order.split)
        fields.text_fields(writer, self.checkpoint, self.text_about, self.first)
        self.vocabulary.write(writer)
        path = work / (self.names.between if second else self.names.language)
        files = write_file(writer, path, self.checkpoint, self.text, threads, steps.begin("language part"))
        return self._quantised(files[0].path, work, steps) if second else files

    def _quantised(self, between: Path, work: Path, steps: Steps) -> list[Written]:
        quant, threads = self.order.quant, self.order.threads
        out, matrix = work / self.names.language, None
        if self.order.imatrix:
            matrix = work / self.names.importance
            self._weigh(between, matrix, steps)
        quantise(between, out, quant, threads, steps.begin("quantising"), matrix)
        for used in filter(None, (between, matrix)):
            used.unlink()
        if self.order.split:
            whole = out.rename(between)  # else the whole would be published beside its shards
            shards = split_file(whole, out, self.order.split, steps.begin(_SHARDS))
            whole.unlink()
            return shards
        with out.open("rb") as file:
            return [Written(out, hashlib.file_digest(file, "sha256").hexdigest())]

    def _weigh(self, between: Path, matrix: Path, steps: Steps) -> None:
        from facellm_converters.equality.runtime import Words

        advance = steps.begin(_MATRIX)
        with Words(between) as words:
            write_importance(matrix, self.checkpoint, words, advance)


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
    if order.imatrix and order.quant not in K_TYPES:
        raise Unsupported(
            f"--quant {order.quant} does not use an importance matrix.",
            f"Leave --imatrix out, or use {', '.join(K_TYPES)}.",
        )
    if order.split and order.split < fields.LEAST_SPLIT:
        raise ConversionError(f"Shards of {order.split:,} bytes are too small.", "Use 100k or more, such as 2G.")


def _first_kind(quant: str, checkpoint: Checkpoint, *, merged: bool) -> str:
    """What the language part is written as at first: for k-quants what the checkpoint is, so that nothing is lost."""
    if quant not in K_TYPES:
        return quant
    stored = checkpoint.kind_of("language_model.embed_tokens.weight")
    if merged and stored == "BF16":  # a merged weight has more digits
        return "F16"
    return stored if stored in fields.FILE_TYPES else "F32"


def _bytes(pieces: list[Piece]) -> int:
    return sum(total(piece) for piece in pieces)
