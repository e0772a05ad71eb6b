"""What can go wrong with a machine while a model trains, as sentences: memory, graphics card, disk."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from facellm.core.errors import FaceLLMError

#: How PyTorch's messages of a card that is gone begin or what they hold.
_LOST = ("CUDA error", "device-side assert", "CUDNN_STATUS", "NCCL error", "NCCL Error", "HIP error")


class OutOfMemory(FaceLLMError):
    """A step needs more memory than there is; the sentence names a size that fits."""


class DeviceLost(FaceLLMError):
    """The graphics card, or the connection to other ones, failed."""


class DiskFull(FaceLLMError):
    """What is to be written does not fit."""


def is_lost_device(error: BaseException) -> bool:
    """Whether PyTorch says that the card is gone or does not answer."""
    import torch

    accelerator_error = getattr(torch, "AcceleratorError", None)
    if accelerator_error is not None and isinstance(error, accelerator_error):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _LOST)


@contextmanager
def disk_faults(folder: Path, what: str, *, need: int = 0, hint: str = "") -> Iterator[None]:
    """Turn a full disk into ``DiskFull``. ``need``: bytes that must be free before anything is written."""
    hint = hint or "Free some space and start the same command again: it goes on from the last saved state."
    free = shutil.disk_usage(folder).free
    if need > free:
        raise DiskFull(f"{what.capitalize()} needs {_size(need)} in {folder}; {_size(free)} are free.", hint)
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full and "No space left" not in str(error):  # safetensors has an error of its own kind
            raise
        raise DiskFull(f"The disk of {folder} is full; {what} could not be written.", hint) from error


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
