"""``python -m facellm.engine.llama_devices``: what llama.cpp can compute on here, as one JSON object.

A process of its own asks, so that llama.cpp is never loaded beside a window or a command.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any


def devices() -> dict[str, Any]:
    """``version``, ``offload`` (whether a GPU is usable), ``features`` of the processor, names of ``devices``."""
    import llama_cpp

    llama_cpp.llama_backend_init()
    return {
        "version": str(llama_cpp.__version__),
        "offload": bool(llama_cpp.llama_supports_gpu_offload()),
        "features": llama_cpp.llama_print_system_info().decode("utf-8", "replace").strip(" |"),
        "devices": _names(),
    }


def _names() -> list[str]:
    """ggml's devices as it describes them; empty where its functions are not exported (Windows' ggml.dll)."""
    from llama_cpp._ggml import libggml

    try:
        libggml.ggml_backend_dev_count.restype = ctypes.c_size_t
        libggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
        libggml.ggml_backend_dev_get.restype = ctypes.c_void_p
        libggml.ggml_backend_dev_description.argtypes = [ctypes.c_void_p]
        libggml.ggml_backend_dev_description.restype = ctypes.c_char_p
        found = [libggml.ggml_backend_dev_get(number) for number in range(libggml.ggml_backend_dev_count())]
        return [libggml.ggml_backend_dev_description(device).decode("utf-8", "replace") for device in found]
    except AttributeError:
        return []


def main() -> None:
    """Write the object to standard output."""
    sys.stdout.write(json.dumps(devices()) + "\n")


if __name__ == "__main__":
    main()
