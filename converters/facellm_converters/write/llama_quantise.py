"""llama.cpp's quantiser as a process. Its arguments: SOURCE OUT TYPE THREADS [IMPORTANCE].

TYPE: a ``llama_ftype``. IMPORTANCE: an importance matrix, a GGUF file as llama.cpp's own tool writes it.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import llama_cpp

_WARNING = 3  # enum ggml_log_level
#: Bytes of rows in memory at once; its own default of 8 GiB would be the machine's all.
_MOST_IN_MEMORY = 1 << 30


def main() -> None:
    """Ends with exit code 0 when OUT is whole."""
    source, out, kind, threads, *importance = sys.argv[1:]

    def log(level: int, text: bytes, _data: Any) -> None:
        if level >= _WARNING:
            sys.stderr.write(text.decode("utf-8", "replace"))

    callback = llama_cpp.llama_log_callback(log)
    llama_cpp.llama_log_set(callback, None)
    llama_cpp.llama_backend_init()
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = int(kind), int(threads)
    parameters.max_buf_size = _MOST_IN_MEMORY
    for matrix in importance:
        _weigh(parameters, Path(matrix))
    sys.exit(1 if llama_cpp.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(parameters)) else 0)


def _weigh(parameters: Any, path: Path) -> None:
    """Give the matrix along, and what the result says of it: the fields that llama.cpp's own tool writes."""
    import numpy as np
    from gguf import GGUFReader

    reader = GGUFReader(path)
    held = {tensor.name: np.asarray(tensor.data).ravel() for tensor in reader.tensors}
    names = [name.removesuffix(".in_sum2") for name in held if name.endswith(".in_sum2")]
    entries = (llama_cpp.llama_model_imatrix_data * (len(names) + 1))()  # the last one stays empty: the end
    for entry, name in zip(entries, names, strict=False):
        means = (held[f"{name}.in_sum2"] / held[f"{name}.counts"]).astype(np.float32)
        entry.name, entry.size = name.encode(), means.size
        entry.data = (ctypes.c_float * means.size)(*means)
    said = {
        "file": path.name,
        "dataset": reader.fields["imatrix.datasets"].contents()[0],
        "entries_count": len(names),
        "chunks_count": int(reader.fields["imatrix.chunk_count"].contents()),
    }
    fields = (llama_cpp.llama_model_kv_override * (len(said) + 1))()
    for field, (key, value) in zip(fields, said.items(), strict=False):
        field.key = f"quantize.imatrix.{key}".encode()
        if isinstance(value, int):
            field.tag, field.value.val_i64 = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_INT, value
        else:
            field.tag, field.value.val_str = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_STR, value.encode()[:127]
    parameters.imatrix, parameters.kv_overrides = entries, fields  # which keeps them alive
