"""A model's name as the name of a file or folder."""

from __future__ import annotations

import re


def as_file_name(name: str) -> str:
    """What follows the last slash, in letters, digits, ``.``, ``_`` and ``-``; empty where nothing is left."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name.rsplit("/", 1)[-1]).strip("-._")
