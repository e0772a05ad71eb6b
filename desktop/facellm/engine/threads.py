"""How many threads llama.cpp should have on this machine."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

import psutil


def usable_cores() -> int:
    """Physical cores that this process may really use: hyper-threads slow llama.cpp down, and threads that
    wait for a core which a container does not grant slow it down a lot. At least 1."""
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = min(cores, len(os.sched_getaffinity(0)))
    with suppress(OSError, ValueError):  # no such limit here, or "max"
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(1, cores)
