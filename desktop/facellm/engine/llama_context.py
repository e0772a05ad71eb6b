"""One llama.cpp context: tokens and pictures in, logits out, and a KV state that is kept between questions."""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from threading import Event
from typing import Any, TypeAlias

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from facellm.engine.errors import EngineError, QuestionTooLong, Stopped
from facellm.engine.llama_eyes import Eyes
from facellm.engine.llama_native import BATCH, PARALLEL, reason
from facellm.engine.prompts import Item, Slot, positions

#: A decode of fewer than 64 tokens takes the attention path of ggml's CPU code in which a token's result does not
#: depend on what else is in the batch; from 64 on it works in tiles. With 8-bit weights a difference in the last
#: digit grows: measured on the nano, the same closed question came out at 0.46 or 0.49. In parts of 63 every way to
#: ask gives the same bits; 6 questions of 174 tokens take 0.44 s instead of 0.38 on one core.
PART = 63
#: Longer texts (1,400 tokens: 7.0 s in parts, 3.9 s at once) are decoded as fast as possible instead.
LONG_TEXT = 4 * PART

#: Bytes of KV states kept for going back to earlier pictures (the nano: 1.2 MB each; InternVL3-1B: 3.2 MB).
KEPT_STATES = 64 << 20

Logits: TypeAlias = NDArray[np.float32]
#: A token for a batch: id, position, sequence, whether its logits are wanted.
_Entry: TypeAlias = tuple[int, int, int, bool]


class Context:
    """Not thread-safe; lives in the child's main thread. ``stop`` may be set by another thread."""

    def __init__(self, context: Any, vocabulary_size: int, eyes: Eyes, stop: Event) -> None:
        self._context, self._eyes, self._stop = context, eyes, stop
        self._vocabulary_size = vocabulary_size
        self._memory = llama_cpp.llama_get_memory(context)
        self._batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
        self._past: list[Item] = []
        self._states: OrderedDict[tuple[Item, ...], ctypes.Array[ctypes.c_uint8]] = OrderedDict()
        self.size = int(llama_cpp.llama_n_ctx(context))

    def kept(self, items: Sequence[Item]) -> int:
        """How many of ``items``, from the first on, the KV state already holds."""
        count = 0
        for old, new in zip(self._past, items, strict=False):
            if old != new:
                break
            count += 1
        return count

    def recall(self, items: Sequence[Item]) -> int:
        """Go back to the state after the pictures of ``items`` if that was kept and is more; then as :meth:`kept`."""
        kept = self.kept(items)
        pictures = [place for place, item in enumerate(items) if isinstance(item, Slot)]
        if pictures and kept <= pictures[-1]:
            known = tuple(items[: pictures[-1] + 1])
            state = self._states.get(known)
            if state is not None:
                self._states.move_to_end(known)
                llama_cpp.llama_memory_seq_rm(self._memory, 0, -1, -1)
                restored = llama_cpp.llama_state_seq_set_data(self._context, state, len(state), 0)
                self._past = list(known) if restored else []
                kept = len(self._past)
        return kept

    def prefill(self, items: Sequence[Item]) -> None:
        """Bring the KV state to exactly ``items``, decoding only what is new; pictures among that are encoded.

        Raises ``Stopped``, ``QuestionTooLong`` or ``EngineError``; what was decoded until then is kept.
        """
        if positions(items) > self.size:
            raise QuestionTooLong(f"{positions(items)} tokens do not fit into the context of {self.size}.")
        self._shorten(self.kept(items))
        run: list[int] = []
        for item in items[len(self._past) :]:
            if isinstance(item, Slot):
                self._extend(run)
                run = []
                self._read(item)
            else:
                run.append(item)
        self._extend(run)

    def logits_after(self, items: Sequence[Item]) -> Logits:
        """Logits ``[vocabulary]`` after ``items``, whose last is a token. Raises as :meth:`prefill`."""
        self._shorten(min(self.kept(items), len(items) - 1))
        self.prefill(items)
        return self._logits(-1)

    def logits_after_next(self, token: int) -> Logits:
        """Logits after one more token. Raises as :meth:`prefill`."""
        self._extend([token])
        return self._logits(-1)

    def branch(self, tails: Sequence[tuple[Sequence[int], int]]) -> list[list[Logits]]:
        """Continue the present state in several ways at once; the state itself stays as it is.

        Each tail is (tokens, n): the result holds the logits after each of its last n tokens. Tails are
        decoded together where they fit. Raises as :meth:`prefill`.
        """
        found: list[list[Logits]] = []
        for group in self._groups(tails):
            try:
                found += self._branch(group)
            finally:
                for sequence in range(1, len(group) + 1):
                    llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        return found

    def _groups(self, tails: Sequence[tuple[Sequence[int], int]]) -> Iterator[list[tuple[Sequence[int], int]]]:
        room = self.size - positions(self._past)
        group: list[tuple[Sequence[int], int]] = []
        used = 0
        for tail in tails:
            if len(tail[0]) > room:
                raise QuestionTooLong(f"A question takes {len(tail[0])} tokens, the context has room for {room}.")
            if group and (len(group) == PARALLEL - 1 or used + len(tail[0]) > room):
                yield group
                group, used = [], 0
            group.append(tail)
            used += len(tail[0])
        if group:
            yield group

    def _branch(self, group: Sequence[tuple[Sequence[int], int]]) -> list[list[Logits]]:
        start = positions(self._past)
        entries: list[_Entry] = []
        for sequence, (tokens, wanted) in enumerate(group, 1):
            llama_cpp.llama_memory_seq_cp(self._memory, 0, sequence, -1, -1)
            first = len(tokens) - wanted
            entries += [(token, start + place, sequence, place >= first) for place, token in enumerate(tokens)]
        found: list[list[Logits]] = [[] for _ in group]
        for part in _parts(entries, PART):
            self._decode(part)
            for place, (_, _, sequence, wanted_here) in enumerate(part):
                if wanted_here:
                    found[sequence - 1].append(self._logits(place))
        return found

    def _extend(self, tokens: Sequence[int]) -> None:
        start = positions(self._past)
        entries = [(token, start + place, 0, False) for place, token in enumerate(tokens)]
        for part in _parts(entries, PART if len(tokens) <= LONG_TEXT else BATCH):
            part[-1] = (*part[-1][:3], True)
            self._decode(part)
            self._past += [token for token, *_ in part]

    def _read(self, slot: Slot) -> None:
        self._look_up()
        self._eyes.encode([slot])
        code = self._eyes.decode(slot, self._context, positions(self._past), BATCH)
        if code:  # mtmd leaves the context as it was in the middle of its work
            llama_cpp.llama_set_causal_attn(self._context, True)
        self._check(code)
        self._past.append(slot)
        self._keep_state()

    def _keep_state(self) -> None:
        """Copy the state after a picture (a millisecond), so that coming back to it costs no reading."""
        size = llama_cpp.llama_state_seq_get_size(self._context, 0)
        state = (ctypes.c_uint8 * size)()
        if llama_cpp.llama_state_seq_get_data(self._context, state, size, 0) != size:
            return
        self._states[tuple(self._past)] = state
        while sum(map(len, self._states.values())) > KEPT_STATES:
            self._states.popitem(last=False)

    def _shorten(self, count: int) -> None:
        """Keep only the first ``count`` items."""
        self._past = self._past[:count]
        if not llama_cpp.llama_memory_seq_rm(self._memory, 0, positions(self._past), -1):
            # Some models (recurrent ones) cannot forget a part.
            llama_cpp.llama_memory_seq_rm(self._memory, 0, -1, -1)
            self._past = []

    def _decode(self, entries: Sequence[_Entry]) -> None:
        self._look_up()
        batch = self._batch
        for place, (token, position, sequence, wanted) in enumerate(entries):
            batch.token[place] = token
            batch.pos[place] = position
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = sequence
            batch.logits[place] = wanted
        batch.n_tokens = len(entries)
        self._check(llama_cpp.llama_decode(self._context, batch))

    def _look_up(self) -> None:
        """Between two computations; within one, llama.cpp asks (on a GPU it does not)."""
        if self._stop.is_set():
            raise Stopped("stopped")

    def _check(self, code: int) -> None:
        if code == 0:
            return
        self._shorten(len(self._past))  # what a decode that was left early has put behind it
        if self._stop.is_set():
            raise Stopped("stopped")
        if code == 1:
            raise QuestionTooLong("The context is full.", "Ask a shorter question, or start a new conversation.")
        raise EngineError(f"llama.cpp could not compute (code {code}): {reason()}")

    def _logits(self, place: int) -> Logits:
        pointer = llama_cpp.llama_get_logits_ith(self._context, place)
        return np.ctypeslib.as_array(pointer, shape=(self._vocabulary_size,)).copy()


def _parts(entries: list[_Entry], size: int) -> Iterator[list[_Entry]]:
    for start in range(0, len(entries), size):
        yield entries[start : start + size]
