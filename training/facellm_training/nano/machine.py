"""What a training run does to use the machine it is on: CUDA where there is one, else the CPU at its full speed."""

from __future__ import annotations

import ctypes
import sys

import torch
from torch import nn

#: glibc's names for ``mallopt`` (malloc.h).
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def best_device() -> torch.device:
    """CUDA if PyTorch finds one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def keep_memory() -> None:
    """Let glibc keep what a step frees instead of handing it back and faulting it in again.

    Measured with ``benchmarks/training.py``: a quarter off the time of an image step. Elsewhere nothing is done.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, -1)


def give_memory_back() -> None:
    """Once in a while: what is kept grows, because steps of other lengths leave holes (4 MB a step, measured)."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") else None


def compile_blocks(blocks: nn.Module) -> None:
    """Have PyTorch write each block's small operations as one loop; lengths may differ between steps.

    Needs the C++ compiler that building the engine needed. The first steps take a minute longer.
    """
    for block in blocks.children():
        block.compile(dynamic=True)
