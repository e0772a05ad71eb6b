"""llama.cpp asked directly, in the plainest way, to compare the engine with. Not a test; run by ``conftest.native``."""

from __future__ import annotations

import ctypes
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np


def _model(path: Path, *, vocabulary_only: bool) -> Any:
    import llama_cpp

    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = vocabulary_only
    return llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)


def plain_tokens(path: Path, texts: list[str]) -> list[list[int]]:
    """Token ids of fully rendered prompts, control tokens parsed everywhere."""
    import llama_cpp

    vocabulary = llama_cpp.llama_model_get_vocab(_model(path, vocabulary_only=True))
    found = []
    for text in texts:
        data = text.encode()
        ids = (llama_cpp.llama_token * (len(data) + 8))()
        found.append(list(ids[: llama_cpp.llama_tokenize(vocabulary, data, len(data), ids, len(ids), True, True)]))
    return found


def engine_tokens(path: Path, source: str, conversations: list[tuple[Any, ...]]) -> list[Any]:
    """Token ids of (question, history) as the engine makes them."""
    from facellm.engine.llama_vocabulary import Vocabulary
    from facellm.engine.prompts import tokenize
    from facellm.engine.template import ChatTemplate

    vocabulary = Vocabulary(_model(path, vocabulary_only=True))
    template = ChatTemplate(source, bos=vocabulary.text(vocabulary.bos), eos=vocabulary.text(vocabulary.eos))
    return [
        list(tokenize(template.compose(question, history, 0), (), vocabulary).items)
        for question, history in conversations
    ]


def spelled(path: Path, text: str) -> list[str]:
    """The pieces in which an answer of exactly ``text`` would be streamed."""
    from facellm.engine.llama_vocabulary import Vocabulary
    from facellm.engine.sampling import Spelling

    vocabulary = Vocabulary(_model(path, vocabulary_only=True))
    spelling = Spelling()
    return [spelling.add(vocabulary.piece(token)) for token in vocabulary.literal(text)]


def gpu_names() -> list[str]:
    """What the engine believes about this machine."""
    from facellm.engine.llama_devices import gpu_names as found

    return found()


def key_logprobs(llm: Path, mmproj: Path, prompt: str, image: Any, keys: list[str]) -> list[float]:
    """Log-probability of each key's only token after ``prompt``, which holds one ``<__media__>``."""
    import llama_cpp
    import llama_cpp.mtmd_cpp as mtmd

    model = _model(llm, vocabulary_only=False)
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = 1024
    context = llama_cpp.llama_init_from_model(model, parameters)
    eyes = mtmd.mtmd_init_from_file(str(mmproj).encode(), model, mtmd.mtmd_context_params_default())
    pixels = image.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
    bitmap = mtmd.mtmd_bitmap_init(image.shape[1], image.shape[0], pixels)
    text = mtmd.mtmd_input_text()
    data = prompt.encode()
    text.text, text.text_len, text.add_special, text.parse_special = data, len(data), True, True
    chunks = mtmd.mtmd_input_chunks_init()
    bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
    assert mtmd.mtmd_tokenize(eyes, chunks, ctypes.byref(text), bitmaps, 1) == 0
    past = llama_cpp.llama_pos(0)
    assert mtmd.mtmd_helper_eval_chunks(eyes, context, chunks, 0, 0, 1024, True, ctypes.byref(past)) == 0
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    size = llama_cpp.llama_vocab_n_tokens(vocabulary)
    logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, -1), shape=(size,)).astype(np.float64)
    logprobs = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
    found = []
    for key in keys:
        ids = (llama_cpp.llama_token * 8)()
        assert llama_cpp.llama_tokenize(vocabulary, key.encode(), len(key), ids, 8, False, False) == 1
        found.append(float(logprobs[ids[0]]))
    return found


if __name__ == "__main__":
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    result = globals()[sys.argv[1]](*pickle.load(sys.stdin.buffer))
    replies.write(pickle.dumps(result))
