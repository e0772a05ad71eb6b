"""One llama.cpp context: pictures and tokens in, logits out, and a KV state that is kept between questions."""

from __future__ import annotations

import ctypes
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from threading import Event
from typing import Any

import llama_cpp
import llama_cpp.mtmd_cpp as mtmd
import numpy as np
from numpy.typing import NDArray

from facellm.core.faces import RgbImage
from facellm.engine.errors import EngineError, QuestionTooLong, Stopped
from facellm.engine.llama_native import BATCH, last_reason

#: Pictures whose embeddings are kept, so that going back to an earlier face encodes nothing
#: (the nano: 49 × 576 floats, 0.1 MB each; InternVL3-1B: 0.9 MB).
KEPT_PICTURES = 32


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """``embedding``: float32 ``[tokens, width]``; ``chunk``: mtmd's chunk that says where they go."""

    key: str
    embedding: NDArray[np.float32]
    chunk: Any
    positions: int


#: What stands in the KV state: a token id, or a picture's key.
Item = int | str


class Context:
    """Not thread-safe; lives in the child's main thread. ``stop`` may be set by another thread."""

    def __init__(self, model: Any, context: Any, eyes: Any, stop: Event) -> None:
        self._model, self._context, self._eyes, self._stop = model, context, eyes, stop
        self._memory = llama_cpp.llama_get_memory(context)
        self._vocabulary = llama_cpp.llama_model_get_vocab(model)
        self.vocabulary_size = int(llama_cpp.llama_vocab_n_tokens(self._vocabulary))
        self._width = int(llama_cpp.llama_model_n_embd_inp(model))
        self.size = int(llama_cpp.llama_n_ctx(context))
        self._pictures: OrderedDict[str, EncodedPicture] = OrderedDict()
        self._past: list[Item] = []
        self.encodes = 0

    # ---- text

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Token ids; ``special``: whether control tokens in ``text`` count as such."""
        data = text.encode("utf-8")
        room = len(data) + 8
        ids = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self._vocabulary, data, len(data), ids, room, False, special)
        return list(ids[:count])

    def piece(self, token: int) -> bytes:
        """The bytes of a token; control tokens give none."""
        buffer = ctypes.create_string_buffer(256)
        length = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, len(buffer), 0, False)
        return buffer.raw[: max(0, length)]

    def ends(self, token: int) -> bool:
        return bool(llama_cpp.llama_vocab_is_eog(self._vocabulary, token))

    # ---- pictures

    def encode(self, image: RgbImage) -> tuple[list[Item], float]:
        """The items that stand for a picture, and the seconds spent encoding (0 when it is kept from before).

        Raises ``Stopped`` or ``EngineError``.
        """
        key = hashlib.blake2b(image.tobytes() + bytes(str(image.shape), "ascii"), digest_size=16).hexdigest()
        chunks = self._chunks(image)
        items: list[Item] = []
        seconds = 0.0
        try:
            for index in range(mtmd.mtmd_input_chunks_size(chunks)):
                chunk = mtmd.mtmd_input_chunks_get(chunks, index)
                if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT:
                    count = ctypes.c_size_t()
                    tokens = mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
                    items += [tokens[i] for i in range(count.value)]
                else:
                    name = f"{key}:{index}"
                    seconds += self._encode_chunk(name, chunk)
                    items.append(name)
        finally:
            mtmd.mtmd_input_chunks_free(chunks)
        return items, seconds

    def embedding(self, items: list[Item]) -> NDArray[np.float32]:
        """Embeddings of a picture's items, ``[tokens, width]``."""
        return np.concatenate([self._pictures[item].embedding for item in items if isinstance(item, str)])

    def _chunks(self, image: RgbImage) -> Any:
        pixels = np.ascontiguousarray(image, np.uint8)
        height, width, _ = pixels.shape
        bitmap = mtmd.mtmd_bitmap_init(width, height, pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)))
        marker = mtmd.mtmd_default_marker()
        text = mtmd.mtmd_input_text()
        text.text, text.text_len = marker, len(marker)
        text.add_special, text.parse_special = False, True
        chunks = mtmd.mtmd_input_chunks_init()
        try:
            array = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
            if mtmd.mtmd_tokenize(self._eyes, chunks, ctypes.byref(text), array, 1):
                mtmd.mtmd_input_chunks_free(chunks)
                raise EngineError(f"The picture cannot be prepared: {last_reason()}")
        finally:
            mtmd.mtmd_bitmap_free(bitmap)
        return chunks

    def _encode_chunk(self, name: str, chunk: Any) -> float:
        if name in self._pictures:
            self._pictures.move_to_end(name)
            return 0.0
        started = time.monotonic()
        code = mtmd.mtmd_encode_chunk(self._eyes, chunk)
        if self._stop.is_set():  # an aborted encode returns 0 all the same
            raise Stopped("stopped")
        if code:
            raise EngineError(f"The picture cannot be encoded: {last_reason()}")
        count = mtmd.mtmd_input_chunk_get_n_tokens(chunk)
        values = np.ctypeslib.as_array(mtmd.mtmd_get_output_embd(self._eyes), shape=(count * self._width,))
        embedding = values.reshape(count, self._width).copy()
        positions = int(mtmd.mtmd_input_chunk_get_n_pos(chunk))
        self._pictures[name] = EncodedPicture(name, embedding, mtmd.mtmd_input_chunk_copy(chunk), positions)
        self.encodes += 1
        while len(self._pictures) > KEPT_PICTURES:
            _, oldest = self._pictures.popitem(last=False)
            mtmd.mtmd_input_chunk_free(oldest.chunk)
        return time.monotonic() - started

    # ---- decoding

    def positions(self, items: list[Item]) -> int:
        """Places that items take in the context."""
        return sum(self._pictures[item].positions if isinstance(item, str) else 1 for item in items)

    def prefill(self, items: list[Item]) -> None:
        """Bring the KV state to ``items``, decoding only what is new; the last item must be a token.

        Afterwards :meth:`logits` holds the distribution after the last item. Raises ``Stopped``,
        ``QuestionTooLong`` or ``EngineError``.
        """
        if self.positions(items) >= self.size:
            raise QuestionTooLong(
                f"Picture and question take {self.positions(items)} tokens, the context holds {self.size}.",
                "Ask a shorter question, or start a new conversation.",
            )
        shared = 0
        while shared < min(len(self._past), len(items) - 1) and self._past[shared] == items[shared]:
            shared += 1
        self._past = self._past[:shared]
        position = self.positions(self._past)
        llama_cpp.llama_memory_seq_rm(self._memory, 0, position, -1)
        run: list[int] = []
        for item in items[shared:]:
            if isinstance(item, int):
                run.append(item)
                continue
            self._decode_run(run)
            run = []
            self._decode_picture(item)
        self._decode_run(run)

    def extend(self, token: int) -> None:
        """Decode one more token."""
        self._decode_run([token])

    def logits(self, index: int = -1) -> NDArray[np.float32]:
        """Logits after the last decoded token (or at batch place ``index``), a copy, ``[vocabulary]``."""
        pointer = llama_cpp.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(pointer, shape=(self.vocabulary_size,)).copy()

    def branch(self, tails: list[list[int]]) -> list[NDArray[np.float32]]:
        """Logits after each of several continuations of the present state, decoded together.

        The state itself stays as it is. At most ``PARALLEL - 1`` continuations.
        """
        start = self.positions(self._past)
        total = sum(map(len, tails))
        found: list[NDArray[np.float32]] = []
        batch = llama_cpp.llama_batch_init(total, 0, 1)
        try:
            ends = []
            for number, tail in enumerate(tails):
                llama_cpp.llama_memory_seq_cp(self._memory, 0, number + 1, -1, -1)
                for offset, token in enumerate(tail):
                    self._put(batch, token, start + offset, number + 1, offset + 1 == len(tail))
                ends.append(batch.n_tokens - 1)
            self._check(llama_cpp.llama_decode(self._context, batch))
            found = [self.logits(place) for place in ends]
        finally:
            llama_cpp.llama_batch_free(batch)
            for number in range(len(tails)):
                llama_cpp.llama_memory_seq_rm(self._memory, number + 1, -1, -1)
        return found

    def forget(self) -> None:
        """Empty the KV state (kept embeddings stay)."""
        llama_cpp.llama_memory_seq_rm(self._memory, 0, -1, -1)
        self._past = []

    def _decode_run(self, tokens: list[int]) -> None:
        for start in range(0, len(tokens), BATCH):
            part = tokens[start : start + BATCH]
            position = self.positions(self._past)
            batch = llama_cpp.llama_batch_init(len(part), 0, 1)
            try:
                for offset, token in enumerate(part):
                    self._put(batch, token, position + offset, 0, offset + 1 == len(part))
                self._check(llama_cpp.llama_decode(self._context, batch))
            finally:
                llama_cpp.llama_batch_free(batch)
            self._past += part

    def _decode_picture(self, name: str) -> None:
        picture = self._pictures[name]
        after = llama_cpp.llama_pos(0)
        code = mtmd.mtmd_helper_decode_image_chunk(
            self._eyes, self._context, picture.chunk,
            picture.embedding.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
            llama_cpp.llama_pos(self.positions(self._past)), llama_cpp.llama_seq_id(0), BATCH,
            ctypes.byref(after), mtmd.mtmd_helper_post_decode_callback(), None,
        )  # fmt: skip
        self._check(code)
        self._past.append(name)

    @staticmethod
    def _put(batch: Any, token: int, position: int, sequence: int, wants_logits: bool) -> None:
        place = batch.n_tokens
        batch.token[place] = token
        batch.pos[place] = position
        batch.n_seq_id[place] = 1
        batch.seq_id[place][0] = sequence
        batch.logits[place] = wants_logits
        batch.n_tokens = place + 1

    def _check(self, code: int) -> None:
        if self._stop.is_set() and code:
            self.forget()  # an aborted decode may have left part of a batch behind
            raise Stopped("stopped")
        if code == 1:
            self.forget()
            raise QuestionTooLong("The context is full.", "Ask a shorter question, or start a new conversation.")
        if code:
            self.forget()
            raise EngineError(f"llama.cpp could not compute (code {code}): {last_reason()}")
