"""What a run's numbers depend on: versions, commit, data, machine."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("facellm", "torch", "transformers", "peft", "accelerate", "numpy", "pillow", "flash_attn", "bitsandbytes")


def record(recipe: dict[str, Any], digest: str, devices: int) -> dict[str, Any]:
    """For run.json and the report. ``digest``: SHA-256 of the conversations' files."""
    cuda = torch.cuda.is_available()
    return {
        "recipe": recipe,
        "data_sha256": digest,
        "commit": commit(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "machine": f"{platform.machine()} {platform.system()}",
        "device": torch.cuda.get_device_name() if cuda else "CPU",
        "devices": devices,
        "cuda": torch.version.cuda if cuda else None,
    }


def commit() -> str | None:
    """Of the sources, "-changed" behind it where they differ from it; none where there is no git."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=-changed", "--exclude=*"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
