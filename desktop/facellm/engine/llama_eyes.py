"""The image encoder (llama.cpp's mtmd): pictures in, embeddings out, the last ones kept."""

from __future__ import annotations

import ctypes
import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

import llama_cpp
import llama_cpp.mtmd_cpp as mtmd
import numpy as np
from numpy.typing import NDArray

from facellm.core.faces import RgbImage
from facellm.engine.errors import EngineError, Stopped
from facellm.engine.llama_native import reason
from facellm.engine.prompts import Item, Slot

#: Pictures whose embeddings are kept, so that going back to an earlier face encodes nothing
#: (the nano: 49 × 576 floats, 0.1 MB each; InternVL3-1B: 0.9 MB).
KEPT_PICTURES = 16
KEPT_BYTES = 64 << 20


@dataclass(slots=True)
class _Seen:
    """``items``: what stands for the picture in a prompt; ``chunks``: mtmd's own description, freed with it."""

    items: tuple[Item, ...]
    chunks: Any
    chunk_of: dict[Slot, Any]
    embedding_of: dict[Slot, NDArray[np.float32]]

    @property
    def size(self) -> int:
        return sum(embedding.nbytes for embedding in self.embedding_of.values())


class Eyes:
    """Not thread-safe; lives in the child's main thread. ``stop`` may be set by another thread."""

    def __init__(self, eyes: Any, width: int, stop: Event) -> None:
        """``width``: numbers in one embedding, as the language model takes it."""
        self._eyes, self._width, self._stop = eyes, width, stop
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self.encodes = 0

    def look(self, images: Sequence[RgbImage]) -> list[tuple[Item, ...]]:
        """What stands for each picture in a prompt; nothing is encoded yet. Raises ``EngineError``."""
        keys = [hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest() for image in images]
        for key, image in zip(keys, images, strict=True):
            if key not in self._seen:
                self._seen[key] = self._describe(key, image)
            self._seen.move_to_end(key)
        self._forget_oldest(set(keys))
        return [self._seen[key].items for key in keys]

    def encode(self, items: Iterable[Item]) -> float:
        """Encode the pictures among ``items`` whose embeddings are not at hand; seconds spent.

        Raises ``Stopped`` or ``EngineError``.
        """
        begun, before = time.monotonic(), self.encodes
        for slot in items:
            if isinstance(slot, Slot) and slot not in self._of(slot).embedding_of:
                self._encode(slot)
        return time.monotonic() - begun if self.encodes > before else 0.0

    def embedding(self, slot: Slot) -> NDArray[np.float32]:
        """float32 ``[tokens, width]``, contiguous; the slot has been encoded."""
        return self._of(slot).embedding_of[slot]

    def decode(self, slot: Slot, context: Any, position: int, batch: int) -> int:
        """Let the language model read a picture at ``position`` of sequence 0; llama.cpp's return code."""
        after = llama_cpp.llama_pos(0)
        return int(
            mtmd.mtmd_helper_decode_image_chunk(
                self._eyes, context, self._of(slot).chunk_of[slot],
                self.embedding(slot).ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
                llama_cpp.llama_pos(position), llama_cpp.llama_seq_id(0), batch,
                ctypes.byref(after), mtmd.mtmd_helper_post_decode_callback(), None,
            )
        )  # fmt: skip

    def _of(self, slot: Slot) -> _Seen:
        return self._seen[slot.key.partition(":")[0]]

    def _describe(self, key: str, image: RgbImage) -> _Seen:
        chunks = self._chunks(image)
        items: list[Item] = []
        chunk_of = {}
        for index in range(mtmd.mtmd_input_chunks_size(chunks)):
            chunk = mtmd.mtmd_input_chunks_get(chunks, index)
            count = int(mtmd.mtmd_input_chunk_get_n_tokens(chunk))
            if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT:  # such as <img>
                length = ctypes.c_size_t()
                tokens = mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(length))
                items += tokens[: length.value]
            else:
                slot = Slot(f"{key}:{index}", count, int(mtmd.mtmd_input_chunk_get_n_pos(chunk)))
                chunk_of[slot] = chunk
                items.append(slot)
        return _Seen(tuple(items), chunks, chunk_of, {})

    def _chunks(self, image: RgbImage) -> Any:
        pixels = np.ascontiguousarray(image, np.uint8)
        height, width, _ = pixels.shape
        marker = mtmd.mtmd_default_marker()
        text = mtmd.mtmd_input_text()
        text.text, text.text_len, text.add_special, text.parse_special = marker, len(marker), False, True
        bitmap = mtmd.mtmd_bitmap_init(width, height, pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)))
        chunks = mtmd.mtmd_input_chunks_init()
        try:
            code = mtmd.mtmd_tokenize(
                self._eyes, chunks, ctypes.byref(text), (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap), 1
            )
        finally:
            mtmd.mtmd_bitmap_free(bitmap)
        if code:
            mtmd.mtmd_input_chunks_free(chunks)
            raise EngineError(f"The picture cannot be prepared (code {code}): {reason()}")
        return chunks

    def _encode(self, slot: Slot) -> None:
        seen = self._of(slot)
        code = mtmd.mtmd_encode_chunk(self._eyes, seen.chunk_of[slot])
        if self._stop.is_set():  # an encode that was left early returns 0 all the same
            raise Stopped("stopped")
        if code:
            raise EngineError(f"The picture cannot be encoded (code {code}): {reason()}")
        values = np.ctypeslib.as_array(mtmd.mtmd_get_output_embd(self._eyes), shape=(slot.tokens * self._width,))
        seen.embedding_of[slot] = values.reshape(slot.tokens, self._width).astype(np.float32, copy=True)
        self.encodes += 1

    def _forget_oldest(self, needed: set[str]) -> None:
        for key in list(self._seen):
            if len(self._seen) <= KEPT_PICTURES and sum(seen.size for seen in self._seen.values()) <= KEPT_BYTES:
                return
            if key not in needed:
                mtmd.mtmd_input_chunks_free(self._seen.pop(key).chunks)
