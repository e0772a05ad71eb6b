"""A checkpoint beside a pair: image tokens, next-token probabilities, and answers to closed questions about faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from facellm.core.canary import waves
from facellm.core.package import ModelPackage
from facellm_converters.equality.decoder import embedded, next_token_logits
from facellm_converters.equality.numbers import Values
from facellm_converters.equality.tower import Picture, image_tokens
from facellm_converters.layouts.checkpoint import Checkpoint, open_checkpoint
from facellm_converters.lora.adapter import read_adapter
from facellm_converters.lora.merge import merging

#: A face described and asked about; probabilities are compared after every token of it.
TEXT = (
    "The photo shows the face of a person of about thirty to forty years. The head is turned slightly to the left, "
    "the eyes are open and look into the camera. The hair is dark brown and falls over the forehead; there is no "
    "headwear. The person wears eyeglasses with a thin frame and smiles with closed lips. Light comes from the front, "
    "the background is plain and out of focus. Question: Is this person wearing glasses? Answer: Yes, eyeglasses with "
    "a thin frame. Question: Which age group? Answer: 30 to 39 years. Question: Is the mouth open? Answer: No, it is "
    "closed. Question: Describe the expression. Answer: A slight smile; the eyes are relaxed. Question: Is the person "
    "wearing a hat? Answer: No. Question: Which hair colour? Answer: Brown."
)
#: Closed questions, and the letters whose probabilities are compared after each.
CLOSED = tuple(
    f"<|im_start|>user\n{question}\nA) {a}\nB) {b}\nC) {c}\nAnswer with the letter.<|im_end|>\n<|im_start|>assistant\n"
    for question, a, b, c in (
        ("Is this person wearing glasses?", "none", "eyeglasses", "sunglasses"),
        ("Is the person smiling?", "no", "slightly", "broadly"),
        ("Is the mouth open?", "closed", "teeth visible", "open"),
        ("How old does the person look?", "a child", "20 to 39", "over 60"),
        ("Where does the head turn?", "left", "to the front", "right"),
        ("Which headwear?", "none", "a hat or cap", "a scarf or hood"),
    )
)
_LETTERS = ("A", "B", "C")

#: Least mean cosine of image tokens, and highest mean divergence in nats, at which a pair counts as equal. float16 and
#: bfloat16 differ by rounding only (random models: 1e-6 nats); fewer bits have a cost, which is what the table is for.
EXACT = {"cosine": 0.999, "divergence": 0.005}
QUANTISED = {"cosine": 0.99, "divergence": 0.2}


@dataclass(frozen=True, slots=True)
class Report:
    """``divergence``: Kullback-Leibler of next-token probabilities, checkpoint ‖ pair, in nats. ``agreement``: share of
    positions with the same likeliest token. ``letters``: share of closed questions with the same letter."""

    equal: bool
    pictures: int
    cosine_mean: float
    cosine_least: float
    largest_error: float
    positions: int
    divergence_mean: float
    divergence_largest: float
    agreement: float
    letters: float
    letters_shift: float

    def as_json(self) -> dict[str, object]:
        """Every number by its name."""
        return asdict(self)

    def table(self) -> str:
        """For a terminal."""
        tokens = (
            f"image tokens    cosine {self.cosine_mean:.6f} on average, {self.cosine_least:.6f} at worst, "
            f"largest error {self.largest_error:.2g} ({self.pictures} pictures)"
        )
        following = (
            f"next token      divergence {self.divergence_mean:.2g} nats on average, {self.divergence_largest:.2g} at "
            f"worst; the same likeliest token in {self.agreement:.1%} of {self.positions} positions"
        )
        closed = (
            f"closed answers  the same letter in {self.letters:.0%} of {len(CLOSED)}, probabilities shifted by "
            f"{self.letters_shift:.2g} on average"
        )
        return "\n".join((tokens, following, closed, "equal" if self.equal else "NOT EQUAL"))


def compare_with(folder: Path, adapter: Path | None, package: ModelPackage, threads: int = 2) -> Report:
    """Compare the checkpoint in ``folder`` (with an adapter merged in) with a pair. Raises ``ConversionError``."""
    merge = merging(read_adapter(adapter)) if adapter is not None else None
    with open_checkpoint(folder, merge) as checkpoint:
        return compare(checkpoint, package, threads)


def compare(checkpoint: Checkpoint, package: ModelPackage, threads: int = 2) -> Report:
    """See :class:`Report`."""
    from facellm_converters.equality.runtime import Pair

    side = checkpoint.vision.image
    first = waves(side)
    pictures: list[Picture] = [first, np.ascontiguousarray(first[::-1, :, ::-1])]
    with Pair(package.llm, package.mmproj, threads) as pair:
        right = [image_tokens(checkpoint, picture) for picture in pictures]
        found = [pair.image_tokens(picture) for picture in pictures]
        cosines = np.concatenate([_cosines(one, other) for one, other in zip(right, found, strict=True)])
        error = max(float(np.abs(one - other).max()) for one, other in zip(right, found, strict=True))
        text = pair.tokens(TEXT)
        last = len(text) - 1
        theirs = _logits(checkpoint, right[0], text, last)
        ours = pair.logits([found[0], text], last)
        divergence = _divergences(theirs, ours)
        letters, shift = _closed(checkpoint, right[0], found[0], pair.tokens, pair.logits)
    limits = EXACT if _is_exact(package) else QUANTISED
    equal = float(cosines.mean()) >= limits["cosine"] and float(divergence.mean()) <= limits["divergence"]
    return Report(
        equal, len(pictures), float(cosines.mean()), float(cosines.min()), error, last, float(divergence.mean()),
        float(divergence.max()), float((theirs.argmax(-1) == ours.argmax(-1)).mean()), letters, shift,
    )  # fmt: skip


def _logits(checkpoint: Checkpoint, picture: Values, ids: Sequence[int], last: int) -> Values:
    return next_token_logits(checkpoint, np.concatenate([picture, embedded(checkpoint, ids)]), last)


def _closed(
    checkpoint: Checkpoint,
    right: Values,
    found: Values,
    tokens: Callable[[str], list[int]],
    logits: Callable[[Sequence[Sequence[int] | Values], int], Values],
) -> tuple[float, float]:
    keys = [tokens(letter)[-1] for letter in _LETTERS]
    same, shift = [], []
    for question in CLOSED:
        ids = tokens(question)
        one, other = _logits(checkpoint, right, ids, 1)[0, keys], logits([found, ids], 1)[0, keys]
        same.append(int(one.argmax()) == int(other.argmax()))
        shift.append(float(np.abs(np.exp(_log_softmax(one)) - np.exp(_log_softmax(other))).mean()))
    return float(np.mean(same)), float(np.mean(shift))


def _is_exact(package: ModelPackage) -> bool:
    names = (package.llm.stem.lower(), package.mmproj.stem.lower())
    return all(name.endswith(("f32", "f16", "bf16")) for name in names)


def _cosines(one: Values, other: Values) -> Values:
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return np.asarray((one * other).sum(-1) / np.maximum(lengths, 1e-12), np.float32)


def _log_softmax(logits: Values) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def _divergences(right: Values, found: Values) -> Values:
    """Row by row, for a vocabulary of 150,000 in float64 is a megabyte a position."""
    rows = []
    for one, other in zip(right, found, strict=True):
        p, q = _log_softmax(one), _log_softmax(other[: len(one)])
        rows.append(float((np.exp(p) * (p - q)).sum()))
    return np.array(rows, np.float32)
