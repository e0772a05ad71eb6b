"""``python -m facellm.engine.llama_devices``: what llama.cpp can compute on here, as one JSON object.

A process of its own asks, so that llama.cpp is never loaded beside a window or a command.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

#: Of ``enum ggml_backend_dev_type``: discrete and integrated graphics.
_GPU_KINDS = (1, 2)


def devices() -> dict[str, Any]:
    """``version``, ``offload`` (whether a GPU is usable), ``features`` of the processor, names of ``devices``."""
    import llama_cpp

    llama_cpp.llama_backend_init()
    return {
        "version": str(llama_cpp.__version__),
        "offload": bool(llama_cpp.llama_supports_gpu_offload()),
        "features": llama_cpp.llama_print_system_info().decode("utf-8", "replace").strip(" |"),
        "devices": [name for name, _ in _found()],
    }


def gpu_names() -> list[str]:
    """The GPUs that this llama.cpp can use, as ggml describes them."""
    import llama_cpp

    if not llama_cpp.llama_supports_gpu_offload():
        return []
    return [name for name, kind in _found() if kind in _GPU_KINDS]


def _found() -> list[tuple[str, int]]:
    """ggml's devices: description and kind. The binding has no functions for them; ggml's two libraries export them."""
    from llama_cpp._ctypes_extensions import load_shared_library
    from llama_cpp._ggml import libggml, libggml_base_path

    base = load_shared_library("ggml-base", libggml_base_path)
    count, get = libggml.ggml_backend_dev_count, libggml.ggml_backend_dev_get
    describe, kind = base.ggml_backend_dev_description, base.ggml_backend_dev_type
    count.restype, get.restype, describe.restype = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_char_p
    get.argtypes, describe.argtypes, kind.argtypes = [ctypes.c_size_t], [ctypes.c_void_p], [ctypes.c_void_p]
    found = [get(number) for number in range(count())]
    return [(describe(device).decode("utf-8", "replace"), kind(device)) for device in found]


def main() -> None:
    """Write the object to standard output."""
    sys.stdout.write(json.dumps(devices()) + "\n")


if __name__ == "__main__":
    main()
