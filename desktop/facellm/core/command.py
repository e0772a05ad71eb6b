"""What a user types to start this program, for sentences that name a command."""

from __future__ import annotations

import os

#: Set by whatever started this program in another way than by its own name, for example to "python3 run.py".
COMMAND_ENV = "FACELLM_COMMAND"


def command(*words: str) -> str:
    """``command("models", "list")``: a command line that works where this program was started."""
    return " ".join((os.environ.get(COMMAND_ENV) or "facellm", *words))
