"""How the command is run by these tests: in a process of its own, from the sources that the tests import."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import facellm

#: One command loads two models and answers: 3 s on 2 quiet cores, but llama.cpp's threads wait for each other, and on
#: cores shared with 10 other busy processes it has taken 120 s.
LIMIT_S = 240


def command(*arguments: str | Path, prefix: tuple[str, ...] = ()) -> list[str]:
    return [*prefix, sys.executable, "-m", "facellm.cli.app", *map(str, arguments)]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, with the sources, and without a terminal's colours."""
    paths = [str(Path(facellm.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    plain = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "NO_COLOR": "1", "COLUMNS": "160", "TERM": "dumb"}
    own_name = {"FACELLM_COMMAND": ""}  # however the tests themselves were started
    return {**os.environ, **plain, **own_name, **(extra or {})}


def run(
    *arguments: str | Path, prefix: tuple[str, ...] = (), env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """``run("faces", photo)``: the command with its output, at most ``LIMIT_S`` seconds."""
    return subprocess.run(
        command(*arguments, prefix=prefix),
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
