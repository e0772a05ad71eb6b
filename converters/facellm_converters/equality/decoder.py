"""A checkpoint's language part (Qwen2, Qwen3, Llama), computed in numpy, one layer's weights in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from facellm_converters.equality.numbers import Values, activate, linear, rms_norm, softmax
from facellm_converters.equality.rotary import turned, turns
from facellm_converters.layouts.checkpoint import Checkpoint

#: A part of a prompt: one token's id, or an image's embeddings ``[tokens, width]``.
Item = int | Values
#: Told of every linear layer before it is computed: its weight's name, and the inputs ``[n, columns]``.
Observer = Callable[[str, Values], None]

#: A layer's linear map by its role, such as "mlp.up_proj", of inputs ``[n, columns]``.
_Linear = Callable[[str, Values], Values]

#: Numbers of the head that are in memory at once (32 MB).
_HEAD_NUMBERS = 1 << 23
#: Positions whose logits are given at once: 19 MB with 151,674 tokens.
POSITIONS = 32
_TABLE = "language_model.embed_tokens.weight"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Inputs ``[n, width]`` that go on from another stretch (``after``: its number), or stand alone."""

    inputs: Values
    after: int | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """Rows ``start:stop`` of all stretches; they see those of ``seen`` and their own up to each."""

    start: int
    stop: int
    seen: slice


def embedded(checkpoint: Checkpoint, items: Sequence[Item]) -> Values:
    """Inputs ``[n, width]``: tokens looked up, image embeddings as they are."""
    rows = (item if isinstance(item, np.ndarray) else checkpoint.read(_TABLE, item, item + 1) for item in items)
    return np.concatenate([np.zeros((0, checkpoint.text.width), np.float32), *rows])


def next_token_logits(checkpoint: Checkpoint, items: Sequence[Item] | Values, last: int | None = None) -> Values:
    """Logits ``[last, vocabulary]`` after each of the last positions (all of them if not told).

    ``items``: token ids and image embeddings in order, or inputs ``[n, width]`` made by :func:`embedded`.
    """
    inputs = items if isinstance(items, np.ndarray) else embedded(checkpoint, items)
    (hidden,) = hidden_states(checkpoint, [Stretch(inputs)])
    hidden = hidden[-(last or len(hidden)) :]
    found = np.empty((len(hidden), checkpoint.text.vocabulary), np.float32)
    for place, piece in zip(range(0, len(found), POSITIONS), logit_pieces(checkpoint, hidden), strict=True):
        found[place : place + POSITIONS] = piece
    return found


def logit_pieces(checkpoint: Checkpoint, hidden: Values) -> Iterator[Values]:
    """Logits ``[≤ POSITIONS, vocabulary]`` of hidden states ``[n, width]``, piece by piece."""
    spec = checkpoint.text
    head, step = _TABLE if spec.tied else "lm_head.weight", max(1, _HEAD_NUMBERS // spec.width)
    for start in range(0, len(hidden), POSITIONS):
        piece = hidden[start : start + POSITIONS]
        found = np.empty((len(piece), spec.vocabulary), np.float32)
        for row in range(0, spec.vocabulary, step):
            found[:, row : row + step] = linear(piece, checkpoint.read(head, row, row + step))
        checkpoint.tensors.release()
        yield found


def hidden_states(
    checkpoint: Checkpoint, stretches: Sequence[Stretch], observe: Observer | None = None
) -> list[Values]:
    """What the head is given ``[n, width]``, for each stretch. ``observe`` must not change what it is told.

    Every weight is read once for all stretches: from a disk that is what takes the time.
    """
    spec = checkpoint.text
    places = _places(stretches)
    x = np.concatenate([stretch.inputs for stretch in stretches])
    # A stretch counts on from the one before it.
    starts = [place.seen.stop - place.seen.start for place in places]
    rows = [np.arange(place.stop - place.start) + start for place, start in zip(places, starts, strict=True)]
    by = turns(spec, np.concatenate(rows))
    for layer in range(spec.layers):
        start = f"language_model.layers.{layer}."
        linear_of = partial(_linear, checkpoint, start, observe)
        x += _attention(checkpoint, start, _normed(checkpoint, f"{start}input_layernorm", x), by, places, linear_of)
        x += _gated(_normed(checkpoint, f"{start}post_attention_layernorm", x), linear_of)
        checkpoint.tensors.release()
    x = _normed(checkpoint, "language_model.norm", x)
    return [x[place.start : place.stop] for place in places]


def _places(stretches: Sequence[Stretch]) -> list[_Place]:
    places: list[_Place] = []
    for stretch in stretches:
        start = places[-1].stop if places else 0
        seen = slice(0, 0)
        if stretch.after is not None:
            before = places[stretch.after]
            assert before.seen == slice(0, 0), "a stretch goes on from one that stands alone"
            seen = slice(before.start, before.stop)
        places.append(_Place(start, start + len(stretch.inputs), seen))
    return places


def _normed(checkpoint: Checkpoint, name: str, x: Values) -> Values:
    return rms_norm(x, checkpoint.read(f"{name}.weight"), checkpoint.text.eps)


def _linear(checkpoint: Checkpoint, start: str, observe: Observer | None, role: str, x: Values) -> Values:
    weight, bias = f"{start}{role}.weight", f"{start}{role}.bias"
    if observe is not None:
        observe(weight, x)
    return linear(x, checkpoint.read(weight), checkpoint.read(bias) if bias in checkpoint else None)


def _attention(
    checkpoint: Checkpoint,
    start: str,
    x: Values,
    by: tuple[Values, Values],
    places: Sequence[_Place],
    linear_of: _Linear,
) -> Values:
    spec = checkpoint.text

    def part(letter: str, heads: int) -> Values:
        return linear_of(f"self_attn.{letter}_proj", x).reshape(len(x), heads, spec.head_dim)

    q, k, v = part("q", spec.heads), part("k", spec.kv_heads), part("v", spec.kv_heads)
    if spec.architecture == "qwen3":
        q = _normed(checkpoint, f"{start}self_attn.q_norm", q)
        k = _normed(checkpoint, f"{start}self_attn.k_norm", k)
    q, k = turned(q, by), turned(k, by)
    found = np.empty_like(q)
    for place in places:
        if place.start == place.stop:  # Qwen's prompts begin with nothing
            continue
        own = slice(place.start, place.stop)
        keys, values = (np.concatenate([one[place.seen], one[own]]) for one in (k, v))
        found[own] = _causal(q[own], keys, values)
    return linear_of("self_attn.o_proj", found.reshape(len(x), -1))


def _causal(q: Values, k: Values, v: Values) -> Values:
    """``[n, heads, head]``: the queries are the last ``n`` of the keys' positions; heads share keys in groups."""
    heads, shared = q.shape[1], k.shape[1]
    hidden = np.triu(np.full((len(q), len(k)), -np.inf, np.float32), len(k) - len(q) + 1)
    found = np.empty_like(q)
    for head in range(heads):
        other = head * shared // heads
        scores = q[:, head] @ k[:, other].T
        scores *= np.float32(q.shape[-1] ** -0.5)
        scores += hidden
        found[:, head] = softmax(scores) @ v[:, other]
    return found


def _gated(x: Values, linear_of: _Linear) -> Values:
    gate = activate(linear_of("mlp.gate_proj", x), "silu")
    gate *= linear_of("mlp.up_proj", x)
    return linear_of("mlp.down_proj", gate)
