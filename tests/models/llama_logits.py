"""What llama.cpp thinks of a text, in a process of its own: ``python llama_logits.py LLM IN.npy OUT.npy``.

``IN``: token ids ``[n]``; ``OUT``: float32 logits ``[n, vocabulary]``.
"""

from __future__ import annotations

import sys

import numpy as np
from llama_cpp import Llama


def main(llm: str, tokens: str, out: str) -> None:
    ids = np.load(tokens)
    model = Llama(llm, n_ctx=512, n_threads=2, logits_all=True, verbose=False)
    model.eval(ids.tolist())
    np.save(out, np.asarray(model.scores[: len(ids)], np.float32))
    model.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
