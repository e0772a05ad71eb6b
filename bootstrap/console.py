"""Says what is going on: one line that renews itself on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

#: Lines of a failed command's output that are shown.
TAIL = 30


class SetupError(Exception):
    """Set-up cannot go on; the message says what happened and what to do."""


def say(text: str) -> None:
    print(f"facellm: {text}", file=sys.stderr, flush=True)


def run_step(title: str, command: list[str], log: Path, env: dict[str, str] | None = None) -> None:
    """Run a long command, its output in ``log``. Raises ``SetupError`` with the end of the output."""
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    live = sys.stderr.isatty() and not os.environ.get("CI")
    if not live:
        say(f"{title} …")
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env)
        try:
            while process.poll() is None:
                if live:
                    sys.stderr.write(f"\rfacellm: {title} … {time.monotonic() - started:.0f} s ")
                    sys.stderr.flush()
                time.sleep(0.1 if time.monotonic() - started < 2 else 0.5)
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
    if live:
        sys.stderr.write("\r\x1b[K")
    if process.returncode:
        tail = log.read_text("utf-8", "replace").splitlines()[-TAIL:]
        raise SetupError(
            "\n".join([f"{title} failed (code {process.returncode}). The end of its output:", *tail, f"Log: {log}"])
        )
    say(f"{title}: done in {time.monotonic() - started:.0f} s")
