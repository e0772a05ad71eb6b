"""What llama.cpp makes of a pair: image tokens, and logits after tokens and embeddings. Close it after use."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

# Before libgomp is loaded: on busy cores its threads would wait for each other at full speed.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import llama_cpp
import llama_cpp.mtmd_cpp as mtmd

from facellm_converters.equality.numbers import Values
from facellm_converters.equality.tower import Picture
from facellm_converters.errors import ConversionError

#: A stretch of the prompt: token ids, or embeddings ``[n, width]``.
Part = Sequence[int] | Values

_CONTEXT = 2048


def _quiet(_level: int, _text: bytes, _data: Any) -> None:
    pass


_LOG = llama_cpp.llama_log_callback(_quiet)


class Pair:
    """A language GGUF and its mmproj on the CPU; a context manager. Raises ``ConversionError`` if one is no good."""

    def __init__(self, language: Path, mmproj: Path, threads: int) -> None:
        for silence in (llama_cpp.llama_log_set, mtmd.mtmd_log_set, mtmd.mtmd_helper_log_set):
            silence(_LOG, None)
        llama_cpp.llama_backend_init()
        self._eyes = self._context = self._model = None
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self._model = llama_cpp.llama_model_load_from_file(str(language).encode(), parameters)
        if not self._model:
            raise ConversionError(f"llama.cpp cannot load {language.name}.", "Convert it again.")
        self._context = self._new_context(threads)
        self._eyes = self._new_eyes(mmproj, threads)
        self.width = int(llama_cpp.llama_model_n_embd(self._model))
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._size = int(llama_cpp.llama_vocab_n_tokens(self._vocabulary))

    def _new_context(self, threads: int) -> Any:
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = _CONTEXT
        parameters.n_threads = parameters.n_threads_batch = threads
        return llama_cpp.llama_init_from_model(self._model, parameters)

    def _new_eyes(self, mmproj: Path, threads: int) -> Any:
        parameters = mtmd.mtmd_context_params_default()
        parameters.use_gpu, parameters.n_threads, parameters.warmup = False, threads, False
        parameters.print_timings = False
        eyes = mtmd.mtmd_init_from_file(str(mmproj).encode(), self._model, parameters)
        if not eyes:
            self.close()
            raise ConversionError(f"llama.cpp cannot load {mmproj.name} for this language part.")
        return eyes

    def tokens(self, text: str) -> list[int]:
        """Ids of a text in which special tokens are written out; no beginning is added."""
        raw = text.encode()
        room = (llama_cpp.llama_token * (len(raw) + 8))()
        count = llama_cpp.llama_tokenize(self._vocabulary, raw, len(raw), room, len(room), False, True)
        return [int(one) for one in room[:count]]

    def image_tokens(self, picture: Picture) -> Values:
        """``[tokens, width]`` of one tile, uint8 RGB ``[side, side, 3]``."""
        pixels = np.ascontiguousarray(picture)
        pointer = pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        bitmap = mtmd.mtmd_bitmap_init(picture.shape[1], picture.shape[0], pointer)
        text, marker = mtmd.mtmd_input_text(), mtmd.mtmd_default_marker()
        text.text, text.text_len, text.add_special, text.parse_special = marker, len(marker), False, True
        chunks = mtmd.mtmd_input_chunks_init()
        try:
            pictures = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
            if mtmd.mtmd_tokenize(self._eyes, chunks, ctypes.byref(text), pictures, 1):
                raise ConversionError("llama.cpp does not take the picture.")
            found = [self._encoded(chunks, number) for number in range(mtmd.mtmd_input_chunks_size(chunks))]
        finally:
            mtmd.mtmd_input_chunks_free(chunks)
            mtmd.mtmd_bitmap_free(bitmap)
        return np.concatenate([one for one in found if one is not None])

    def _encoded(self, chunks: Any, number: int) -> Values | None:
        chunk = mtmd.mtmd_input_chunks_get(chunks, number)
        if mtmd.mtmd_input_chunk_get_type(chunk) != mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE:
            return None
        if mtmd.mtmd_encode_chunk(self._eyes, chunk):
            raise ConversionError("llama.cpp could not encode the picture.")
        count = int(mtmd.mtmd_input_chunk_get_n_tokens(chunk))
        values = np.ctypeslib.as_array(mtmd.mtmd_get_output_embd(self._eyes), shape=(count * self.width,))
        return np.array(values.reshape(count, self.width))

    def logits(self, parts: Sequence[Part], last: int) -> Values:
        """Logits ``[last, vocabulary]`` after the last positions, which must be tokens of the last part."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        position = 0
        for number, part in enumerate(parts, 1):
            self._decode(part, position, last if number == len(parts) else 0)
            position += len(part)
        count = len(parts[-1])
        rows = [llama_cpp.llama_get_logits_ith(self._context, row) for row in range(count - last, count)]
        return np.stack([np.array(np.ctypeslib.as_array(row, shape=(self._size,))) for row in rows])

    def _decode(self, part: Part, position: int, wanted: int) -> None:
        embeddings = part if isinstance(part, np.ndarray) else None
        batch = llama_cpp.llama_batch_init(len(part), self.width if embeddings is not None else 0, 1)
        try:
            batch.n_tokens = len(part)
            if embeddings is not None:
                ctypes.memmove(batch.embd, np.ascontiguousarray(embeddings).ctypes.data, embeddings.nbytes)
            for place in range(len(part)):
                if embeddings is None:
                    batch.token[place] = int(part[place])
                batch.pos[place] = position + place
                batch.n_seq_id[place] = 1
                batch.seq_id[place][0] = 0
                batch.logits[place] = place >= len(part) - wanted
            if llama_cpp.llama_decode(self._context, batch):
                raise ConversionError("llama.cpp could not compute.", "Is there enough memory?")
        finally:
            llama_cpp.llama_batch_free(batch)

    def close(self) -> None:
        """Free all of it."""
        eyes, context, model = self._eyes, self._context, self._model
        for thing, free in (
            (eyes, mtmd.mtmd_free),
            (context, llama_cpp.llama_free),
            (model, llama_cpp.llama_model_free),
        ):
            if thing:
                free(thing)
        self._eyes = self._context = self._model = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
