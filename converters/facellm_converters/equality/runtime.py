"""What llama.cpp makes of a pair: image tokens, and logits after tokens and embeddings. Close it after use."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

# Before libgomp is loaded: on busy cores its threads would wait for each other at full speed.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import llama_cpp
import llama_cpp.mtmd_cpp as mtmd

from facellm_converters.equality.decoder import POSITIONS
from facellm_converters.equality.numbers import Values
from facellm_converters.equality.tower import Picture
from facellm_converters.errors import ConversionError

#: A stretch of the prompt: token ids, or embeddings ``[n, width]``.
Part = Sequence[int] | Values

#: Tokens of a prompt, and of one decode.
_CONTEXT, _BATCH = 2048, 512


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture's ``embeddings`` ``[tokens, width]`` and the ids that llama.cpp puts around them, such as <img>."""

    before: list[int]
    embeddings: Values
    after: list[int]


def _quiet(_level: int, _text: bytes, _data: Any) -> None:
    pass


_LOG = llama_cpp.llama_log_callback(_quiet)


class _Vocabulary:
    """How a loaded model cuts text."""

    _vocabulary: Any

    @property
    def opening(self) -> list[int]:
        """What every prompt begins with: Llama's first token, nothing with Qwen."""
        if not llama_cpp.llama_vocab_get_add_bos(self._vocabulary):
            return []
        return [int(llama_cpp.llama_vocab_bos(self._vocabulary))]

    def tokens(self, text: str) -> list[int]:
        """Ids of a text in which special tokens are written out; no beginning is added."""
        raw = text.encode()
        room = (llama_cpp.llama_token * (len(raw) + 8))()
        count = llama_cpp.llama_tokenize(self._vocabulary, raw, len(raw), room, len(room), False, True)
        return [int(one) for one in room[:count]]


class Words(_Vocabulary):
    """The vocabulary of a language GGUF, without its weights; a context manager.

    Raises ``ConversionError`` where it does not load.
    """

    def __init__(self, language: Path) -> None:
        llama_cpp.llama_log_set(_LOG, None)
        llama_cpp.llama_backend_init()
        self._model = _load_model(language, words_only=True)
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        llama_cpp.llama_model_free(self._model)


class Pair(_Vocabulary):
    """A language GGUF and its mmproj on the CPU; a context manager.

    Raises ``ConversionError`` where one of them does not load.
    """

    def __init__(self, language: Path, mmproj: Path, threads: int) -> None:
        for silence in (llama_cpp.llama_log_set, mtmd.mtmd_log_set, mtmd.mtmd_helper_log_set):
            silence(_LOG, None)
        llama_cpp.llama_backend_init()
        self._eyes = self._context = self._model = None
        self._prefix = 0
        try:
            self._model = _load_model(language)
            self._context = _new_context(self._model, threads)
            self._eyes = _load_eyes(mmproj, self._model, threads)
        except ConversionError:
            self.close()
            raise
        self.width = int(llama_cpp.llama_model_n_embd(self._model))
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._size = int(llama_cpp.llama_vocab_n_tokens(self._vocabulary))

    def image_tokens(self, picture: Picture) -> Values:
        """``[tokens, width]`` of one tile, uint8 RGB ``[side, side, 3]``."""
        return self.see(picture).embeddings

    def see(self, picture: Picture) -> Seen:
        """A tile as it stands in a prompt. Raises ``ConversionError``."""
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
            return self._described(chunks)
        finally:
            mtmd.mtmd_input_chunks_free(chunks)
            mtmd.mtmd_bitmap_free(bitmap)

    def _described(self, chunks: Any) -> Seen:
        around: tuple[list[int], list[int]] = ([], [])
        found: list[Values] = []
        for number in range(mtmd.mtmd_input_chunks_size(chunks)):
            chunk = mtmd.mtmd_input_chunks_get(chunks, number)
            if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE:
                found.append(self._encoded(chunk))
            else:
                length = ctypes.c_size_t()
                ids = mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(length))
                around[bool(found)].extend(int(one) for one in ids[: length.value])
        if len(found) != 1:
            raise ConversionError(f"llama.cpp cuts a picture of exactly one tile into {len(found)}.")
        return Seen(around[0], found[0], around[1])

    def _encoded(self, chunk: Any) -> Values:
        if mtmd.mtmd_encode_chunk(self._eyes, chunk):
            raise ConversionError("llama.cpp could not encode the picture.")
        count = int(mtmd.mtmd_input_chunk_get_n_tokens(chunk))
        values = np.ctypeslib.as_array(mtmd.mtmd_get_output_embd(self._eyes), shape=(count * self.width,))
        return np.array(values.reshape(count, self.width))

    def logits(self, parts: Sequence[Part], last: int) -> Values:
        """Logits ``[last, vocabulary]`` after the last positions, which must be tokens of the last part."""
        self.begin(parts[:-1])
        return np.concatenate(list(self.after(parts[-1], last)))

    def begin(self, parts: Sequence[Part]) -> None:
        """Read what several texts begin with; :meth:`after` goes on from there each time."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        self._prefix = 0
        for part in parts:
            self._read(part, self._prefix)
            self._prefix += len(part)

    def after(self, part: Part, last: int) -> Iterator[Values]:
        """Logits ``[≤ POSITIONS, vocabulary]`` after the last positions of ``part``, piece by piece."""
        llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(self._context), 0, self._prefix, -1)
        first = len(part) - last
        self._read(part[:first], self._prefix)
        for start in range(first, len(part), POSITIONS):
            piece = part[start : start + POSITIONS]
            self._decode(piece, self._prefix + start, wanted=True)
            rows = [llama_cpp.llama_get_logits_ith(self._context, row) for row in range(len(piece))]
            yield np.stack([np.ctypeslib.as_array(row, shape=(self._size,)) for row in rows])

    def _read(self, part: Part, position: int) -> None:
        for start in range(0, len(part), _BATCH):
            self._decode(part[start : start + _BATCH], position + start, wanted=False)

    def _decode(self, part: Part, position: int, *, wanted: bool) -> None:
        if position + len(part) > _CONTEXT:
            raise ConversionError(f"The comparison takes more than {_CONTEXT} tokens.", "Use a shorter text.")
        embeddings = part if isinstance(part, np.ndarray) else None
        batch = llama_cpp.llama_batch_init(len(part), self.width if embeddings is not None else 0, 1)
        try:
            batch.n_tokens = len(part)
            if embeddings is not None:
                values = np.ascontiguousarray(embeddings, np.float32)
                ctypes.memmove(batch.embd, values.ctypes.data, values.nbytes)
            for place in range(len(part)):
                if embeddings is None:
                    batch.token[place] = int(part[place])
                batch.pos[place] = position + place
                batch.n_seq_id[place] = 1
                batch.seq_id[place][0] = 0
                batch.logits[place] = wanted
            if llama_cpp.llama_decode(self._context, batch):
                raise ConversionError("llama.cpp could not compute.", "Is there enough memory?")
        finally:
            llama_cpp.llama_batch_free(batch)

    def close(self) -> None:
        """Free all of it."""
        frees = (mtmd.mtmd_free, llama_cpp.llama_free, llama_cpp.llama_model_free)
        for thing, free in zip((self._eyes, self._context, self._model), frees, strict=True):
            if thing:
                free(thing)
        self._eyes = self._context = self._model = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _load_model(path: Path, *, words_only: bool = False) -> Any:
    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers, parameters.vocab_only = 0, words_only
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        raise ConversionError(f"llama.cpp cannot load {path.name}.", "See facellm inspect, or convert it again.")
    return model


def _new_context(model: Any, threads: int) -> Any:
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx, parameters.n_batch, parameters.n_ubatch = _CONTEXT, _BATCH, _BATCH
    parameters.n_threads = parameters.n_threads_batch = threads
    context = llama_cpp.llama_init_from_model(model, parameters)
    if not context:
        raise ConversionError(f"There is no room for a context of {_CONTEXT} tokens.", "Free some memory.")
    return context


def _load_eyes(path: Path, model: Any, threads: int) -> Any:
    parameters = mtmd.mtmd_context_params_default()
    parameters.use_gpu, parameters.n_threads, parameters.warmup = False, threads, False
    parameters.print_timings = False
    eyes = mtmd.mtmd_init_from_file(str(path).encode(), model, parameters)
    if not eyes:
        raise ConversionError(f"llama.cpp cannot load {path.name} for this language part.")
    return eyes
