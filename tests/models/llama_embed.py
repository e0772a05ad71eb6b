"""What llama.cpp makes of pictures, in a process of its own: ``python llama_embed.py LLM MMPROJ IN.npy OUT.npy``.

``IN``: uint8 ``[n, 224, 224, 3]``; ``OUT``: float32 ``[n, tokens, width]``, straight from the image graph.
"""

from __future__ import annotations

import ctypes
import sys

import llama_cpp
import llama_cpp.mtmd_cpp as mtmd
import numpy as np


def embed(eyes: object, width: int, picture: np.ndarray) -> np.ndarray:
    side = picture.shape[0]
    pixels = np.ascontiguousarray(picture)
    bitmap = mtmd.mtmd_bitmap_init(side, side, pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)))
    text = mtmd.mtmd_input_text()
    marker = mtmd.mtmd_default_marker()
    text.text, text.text_len, text.add_special, text.parse_special = marker, len(marker), False, True
    chunks = mtmd.mtmd_input_chunks_init()
    bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
    assert mtmd.mtmd_tokenize(eyes, chunks, ctypes.byref(text), bitmaps, 1) == 0
    found = []
    for number in range(mtmd.mtmd_input_chunks_size(chunks)):
        chunk = mtmd.mtmd_input_chunks_get(chunks, number)
        if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE:
            assert mtmd.mtmd_encode_chunk(eyes, chunk) == 0
            tokens = mtmd.mtmd_input_chunk_get_n_tokens(chunk)
            values = np.ctypeslib.as_array(mtmd.mtmd_get_output_embd(eyes), shape=(tokens * width,))
            found.append(values.reshape(tokens, width).copy())
    mtmd.mtmd_input_chunks_free(chunks)
    mtmd.mtmd_bitmap_free(bitmap)
    (only,) = found
    return only


def main(llm: str, mmproj: str, pictures: str, out: str) -> None:
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(llm.encode(), llama_cpp.llama_model_default_params())
    parameters = mtmd.mtmd_context_params_default()
    parameters.use_gpu, parameters.n_threads, parameters.warmup = False, 2, False
    eyes = mtmd.mtmd_init_from_file(mmproj.encode(), model, parameters)
    assert eyes, "llama.cpp did not load the mmproj"
    width = llama_cpp.llama_model_n_embd(model)
    np.save(out, np.stack([embed(eyes, width, picture) for picture in np.load(pictures)]))
    mtmd.mtmd_free(eyes)
    llama_cpp.llama_model_free(model)


if __name__ == "__main__":
    main(*sys.argv[1:])
