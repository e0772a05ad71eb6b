"""A checkpoint beside a pair: image tokens, next-token probabilities, and answers to closed questions about faces."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facellm.core.package import ModelPackage
from facellm_converters.equality.decoder import Stretch, embedded, hidden_states, logit_pieces
from facellm_converters.equality.measures import (
    ClosedCost,
    PictureRow,
    Positions,
    closed_cost,
    cosines,
    picture_row,
)
from facellm_converters.equality.numbers import Values
from facellm_converters.equality.texts import TEXTS, Text, pictures, rendered
from facellm_converters.equality.tower import Picture, tokens_of_all
from facellm_converters.equality.verdict import faults, stored_kind
from facellm_converters.errors import ConversionError
from facellm_converters.layouts.checkpoint import Checkpoint, open_checkpoint
from facellm_converters.lora.adapter import read_adapter
from facellm_converters.lora.merge import merging

if TYPE_CHECKING:
    from facellm_converters.equality.runtime import Pair, Seen


@dataclass(frozen=True, slots=True)
class Report:
    """``faults``: why the pair is not equal, in sentences. ``language``, ``mmproj``: how they are stored.

    ``divergence``: Kullback-Leibler of next-token probabilities, checkpoint ‖ pair, in nats; ``_text`` without a
    picture, ``_picture`` after one. ``agreement``: share of positions with the same likeliest token. ``letters``: share
    of the closed ``questions`` with the same letter; ``letters_shift``: by how much a letter's probability moves.
    """

    equal: bool
    faults: tuple[str, ...]
    language: str
    mmproj: str
    pictures: int
    by_picture: tuple[PictureRow, ...]
    cosine_mean: float
    cosine_least: float
    largest_error: float
    positions: int
    divergence_mean: float
    divergence_largest: float
    divergence_text: float
    divergence_picture: float
    agreement: float
    questions: int
    letters: float
    letters_shift: float

    def as_json(self) -> dict[str, object]:
        """Every number by its name."""
        return asdict(self)

    def table(self) -> str:
        """For a terminal."""
        images = (
            f"image tokens    cosine {self.cosine_mean:.6f} on average, {self.cosine_least:.6f} at worst, largest "
            f"error {self.largest_error:.2g} ({self.pictures} pictures, {self.mmproj})"
        )
        tokens = (
            f"next token      divergence {self.divergence_mean:.2g} nats on average, {self.divergence_largest:.2g} "
            f"at worst; the same likeliest token in {self.agreement:.1%} of {self.positions} positions "
            f"({self.language})"
        )
        closed = (
            f"closed answers  the same letter in {self.letters:.0%} of {self.questions}, probabilities shifted by "
            f"{self.letters_shift:.2g} on average"
        )
        verdict = "equal" if self.equal else "NOT EQUAL: " + "; ".join(self.faults)
        return f"{images}\n{tokens}\n{closed}\n{verdict}"


def compare_with(folder: Path, adapter: Path | None, package: ModelPackage) -> Report:
    """Compare the checkpoint in ``folder`` (with an adapter merged in) with a pair. Raises ``ConversionError``."""
    merge = merging(read_adapter(adapter)) if adapter is not None else None
    with open_checkpoint(folder, merge) as checkpoint:
        return compare(checkpoint, package)


def compare(
    checkpoint: Checkpoint,
    package: ModelPackage,
    texts: Sequence[Text] = TEXTS,
    shown: Sequence[Picture] | None = None,
    threads: int = max(1, os.cpu_count() or 1),
) -> Report:
    """See :class:`Report`. ``shown``: pictures of exactly the tile's side. Raises ``ConversionError``."""
    from facellm_converters.equality.runtime import Pair

    shown = pictures(checkpoint.vision.image) if shown is None else shown
    with Pair(package.llm, package.mmproj, threads) as pair:
        seen = [pair.see(picture) for picture in shown]
        right = tokens_of_all(checkpoint, shown)
        if right.shape[1:] != seen[0].embeddings.shape:
            raise ConversionError(
                f"llama.cpp makes {_by(seen[0].embeddings)} numbers of a picture, the checkpoint {_by(right[0])}.",
                "They are different models.",
            )
        asked = _Asked(checkpoint, pair, texts, right, seen)
        asked.run()
    return _report(checkpoint, package, right, seen, asked)


class _Asked:
    """Every text asked of both; the checkpoint's weights are read once for all of them."""

    def __init__(
        self, checkpoint: Checkpoint, pair: Pair, texts: Sequence[Text], right: Values, seen: Sequence[Seen]
    ) -> None:
        self._checkpoint, self._pair, self._right, self._seen = checkpoint, pair, right, seen
        self._texts = sorted(texts, key=lambda text: -1 if text.picture is None else text.picture)
        self._ids = [rendered(text, pair.tokens) for text in self._texts]
        self.text, self.picture = Positions(), Positions()
        self.closed = closed_cost(np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32), [])

    def run(self) -> None:
        answers: list[tuple[Values, Values, list[int]]] = []
        begun: list[int | None] = []
        for text, ids, hidden in zip(self._texts, self._ids, self._hidden(), strict=True):
            if begun[-1:] != [text.picture]:
                begun.append(text.picture)
                self._begin(text.picture)
            into = self.text if text.picture is None else self.picture
            wanted = hidden[-1:] if text.options else hidden
            for one, other in zip(
                logit_pieces(self._checkpoint, wanted), self._pair.after(ids, len(wanted)), strict=True
            ):
                found = other[:, : one.shape[1]]
                if text.options:
                    answers.append((one[0], found[0], [self._pair.tokens(letter)[-1] for letter in text.letters]))
                into.add(one, found)
        if answers:
            right, found_, keys = zip(*answers, strict=True)
            self.closed = closed_cost(np.stack(right), np.stack(found_), keys)

    def _begin(self, picture: int | None) -> None:
        opening = self._pair.opening
        if picture is None:
            self._pair.begin([opening])
        else:
            seen = self._seen[picture]
            self._pair.begin([opening + seen.before, seen.embeddings, seen.after])

    def _hidden(self) -> list[Values]:
        """The checkpoint's, of each text."""
        before: dict[int | None, int] = {}
        stretches: list[Stretch] = []
        for picture in sorted({text.picture for text in self._texts}, key=str):
            before[picture] = len(stretches)
            items: list[int | Values] = list(self._pair.opening)
            if picture is not None:
                seen = self._seen[picture]
                items += [*seen.before, self._right[picture], *seen.after]
            stretches.append(Stretch(embedded(self._checkpoint, items)))
        count = len(stretches)
        for text, ids in zip(self._texts, self._ids, strict=True):
            stretches.append(Stretch(embedded(self._checkpoint, ids), before[text.picture]))
        return hidden_states(self._checkpoint, stretches)[count:]


def _report(
    checkpoint: Checkpoint, package: ModelPackage, right: Values, seen: Sequence[Seen], asked: _Asked
) -> Report:
    rows = tuple(picture_row(one, other.embeddings) for one, other in zip(right, seen, strict=True))
    cosine = float(np.mean([row.cosine_mean for row in rows]))
    every = Positions.together((asked.text, asked.picture))
    language, mmproj = stored_kind(package.llm), stored_kind(package.mmproj)
    why = faults(language, mmproj, cosine, asked.text.mean, asked.picture.mean)
    if why and checkpoint.kind == "llava":
        why += (_llavas_fault(right[0], seen[0].embeddings),)
    closed: ClosedCost = asked.closed
    return Report(
        not why, why, language, mmproj, len(rows), rows, cosine, min(row.cosine_least for row in rows),
        max(row.largest_error for row in rows), len(every.same), every.mean, every.largest, asked.text.mean,
        asked.picture.mean, every.agreement, closed.questions, closed.agreement, closed.shift,
    )  # fmt: skip


def _llavas_fault(right: Values, found: Values) -> str:
    others = float(cosines(right[1:], found[:-1]).mean())
    return (
        "llama.cpp's LLaVA graph leaves out the first patch and puts the class token last (its issue 25814); "
        f"with that, the other image tokens have a cosine of {others:.4f}"
    )


def _by(values: Values) -> str:
    return "×".join(map(str, values.shape))
