"""llama.cpp's quantiser as a process. Its arguments: SOURCE OUT TYPE THREADS, TYPE a ``llama_ftype``."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import llama_cpp

_WARNING = 3  # enum ggml_log_level
#: Bytes of rows in memory at once; its own default of 8 GiB would be the machine's all.
_MOST_IN_MEMORY = 1 << 30


def main() -> None:
    """Ends with exit code 0 when OUT is whole."""
    source, out, kind, threads = sys.argv[1:]

    def log(level: int, text: bytes, _data: Any) -> None:
        if level >= _WARNING:
            sys.stderr.write(text.decode("utf-8", "replace"))

    callback = llama_cpp.llama_log_callback(log)
    llama_cpp.llama_log_set(callback, None)
    llama_cpp.llama_backend_init()
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = int(kind), int(threads)
    parameters.max_buf_size = _MOST_IN_MEMORY
    sys.exit(1 if llama_cpp.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(parameters)) else 0)
