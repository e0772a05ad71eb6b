"""An importance matrix: for each input of each linear layer the sum of its squares over all tokens of the texts.

Written as llama.cpp's own tool writes it, so that its ``llama-quantize --imatrix`` reads it too. As there, the
embedding table and the head are not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from gguf import GGUFWriter
from numpy.typing import NDArray

from facellm_converters.equality.decoder import Item, Stretch, embedded, hidden_states
from facellm_converters.equality.numbers import Values
from facellm_converters.equality.tower import tokens_of_all
from facellm_converters.errors import BadCheckpoint
from facellm_converters.importance.pictures import faces
from facellm_converters.importance.texts import CONVERSATIONS, NAME, conversations, turns
from facellm_converters.layouts.checkpoint import Checkpoint
from facellm_converters.write import kinds
from facellm_converters.write.plan import text_name

if TYPE_CHECKING:
    from facellm_converters.equality.runtime import Words

#: Tokens of a chunk, which is what llama.cpp counts texts by: its default.
CHUNK = 512
#: Rows whose squares are summed at once.
_ROWS = 256


class Sums:
    """An observer of the decoder: for each weight the ``sums`` of squares of its inputs ``[columns]``, and ``tokens``.

    Raises ``BadCheckpoint`` as soon as an input is no number, or where all of a layer's inputs are zero.
    ``advance``: told the bytes of each weight.
    """

    def __init__(self, checkpoint: Checkpoint, advance: Callable[[int], None]) -> None:
        self._checkpoint, self._advance = checkpoint, advance
        self.sums: dict[str, NDArray[np.float64]] = {}
        self.tokens = 0

    def __call__(self, name: str, inputs: Values) -> None:
        found = np.zeros(inputs.shape[1])
        for start in range(0, len(inputs), _ROWS):
            found += np.square(inputs[start : start + _ROWS], dtype=np.float64).sum(0)
        if not np.isfinite(found).all():
            raise BadCheckpoint(
                f"The inputs of {name} are not numbers (NaN or infinity) when the model reads about faces.",
                "Its training diverged: use an earlier checkpoint.",
            )
        if not found.any():
            raise BadCheckpoint(
                f"Nothing reaches {name}: its inputs are zero whatever the model reads.",
                "Is the checkpoint whole? Leave --imatrix out to convert it all the same.",
            )
        self.sums[name] = found
        self.tokens = len(inputs)
        self._advance(_bytes(self._checkpoint, name))


def weighed(checkpoint: Checkpoint) -> list[str]:
    """Names of the weights that the matrix is for: those of the language part's layers."""
    start = "language_model.layers."
    return [name for name, shape in checkpoint.weights.items() if name.startswith(start) and len(shape) == 2]


def bytes_read(checkpoint: Checkpoint) -> int:
    """Bytes of those weights in the checkpoint."""
    return sum(_bytes(checkpoint, name) for name in weighed(checkpoint))


def write_importance(path: Path, checkpoint: Checkpoint, words: Words, advance: Callable[[int], None]) -> None:
    """Compute it, layer by layer, and write it. ``advance``: told of :func:`bytes_read`, weight by weight.

    Raises ``BadCheckpoint`` where the model's activations are no numbers, or a layer has none.
    """
    found = Sums(checkpoint, advance)
    with np.errstate(all="ignore"):  # what is no number is named
        hidden_states(checkpoint, stretches(checkpoint, words), found)
    missing = sorted(set(weighed(checkpoint)) - set(found.sums))
    if missing:
        raise BadCheckpoint(f"No texts reach {missing[0]}, which the importance matrix must cover.")
    _write(path, found)


def stretches(checkpoint: Checkpoint, words: Words) -> list[Stretch]:
    """The texts as the decoder takes them; half of the conversations behind a picture."""
    shown = tokens_of_all(checkpoint, faces(checkpoint.vision.image))
    begun = [Stretch(embedded(checkpoint, items)) for items in _beginnings(words, list(shown))]
    found = list(begun)
    turn = turns(words.tokens)
    marked = len(words.tokens("</img>")) == 1
    for number, dialogues in enumerate(conversations()):
        pictured = number >= CONVERSATIONS // 2
        first = ("</img>\n" if marked else "\n") if pictured else turn.before
        after = 1 + number % len(shown) if pictured else 0
        found.append(Stretch(embedded(checkpoint, words.tokens(first + turn.text(dialogues))), after))
    return found


def _beginnings(words: Words, shown: list[Values]) -> Iterator[list[Item]]:
    """Of the conversations without a picture, then of those behind each."""
    yield list(words.opening)
    mark = "<img>" if len(words.tokens("<img>")) == 1 else ""
    for picture in shown:
        yield [*words.opening, *words.tokens(turns(words.tokens).before + mark), picture]


def _bytes(checkpoint: Checkpoint, name: str) -> int:
    return kinds.stored_bytes(getattr(kinds, checkpoint.kind_of(name)), checkpoint.weights[name])


def _write(path: Path, found: Sums) -> None:
    writer = GGUFWriter(path, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", [NAME])
    writer.add_uint32("imatrix.chunk_count", -(-found.tokens // CHUNK))
    writer.add_uint32("imatrix.chunk_size", CHUNK)
    for name, sums in found.sums.items():
        writer.add_tensor(f"{text_name(name)}.in_sum2", sums.astype(np.float32)[None])
        writer.add_tensor(f"{text_name(name)}.counts", np.full((1, 1), found.tokens, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
