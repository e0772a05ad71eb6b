"""Says what is going on: one line that renews itself on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

#: Lines of a failed command's output that are shown.
TAIL = 30
#: Bytes after which a log is begun anew; a build of llama.cpp writes 0.3 MB.
LOG_LIMIT = 20_000_000
#: Seconds between two plain lines of a long step, so that a CI log shows life.
HEARTBEAT = 30.0
AGAIN = "Check the network and the free space on the disk, then run the same command again: it goes on from here."
#: Open files that the programs of steps keep open too: the lock of a set-up, so that a program which outlives a
#: killed set-up (pip, still writing) keeps the next one waiting. Empty on Windows, which cannot pass them on.
PASSED_ON: set[int] = set()


class SetupError(Exception):
    """Set-up cannot go on; the message says what happened and what to do."""


def say(text: str) -> None:
    """One line for the user, on standard error: standard output belongs to what is run."""
    print(f"facellm: {text}", file=sys.stderr, flush=True)


def run_step(title: str, command: list[str], log: Path, env: dict[str, str] | None = None, hint: str = AGAIN) -> None:
    """Run a long command with its output in ``log``. Raises ``SetupError`` with the end of that output and ``hint``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb" if log.exists() and log.stat().st_size > LOG_LIMIT else "ab") as out:
        out.write(f"\n== {title}\n".encode())
        out.flush()
        start = out.tell()
        line = _Line(title)
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env, pass_fds=tuple(PASSED_ON)
        )
        try:
            while process.poll() is None:
                line.show(_last_line(log, start))
                time.sleep(0.1 if line.seconds() < 2 else 0.5)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        tail = "\n".join(f"    {text}" for text in _text(log, start).splitlines()[-TAIL:])
        line.end(f"{title}: failed")
        told = f"{title} failed (code {process.returncode}). The end of its output:\n{tail}"
        raise SetupError(f"{told}\nAll of it: {log}\n{hint}")
    line.end(f"{title}: done in {line.seconds():.0f} s")


class _Line:
    """The line of one step."""

    def __init__(self, title: str) -> None:
        self.title, self._started = title, time.monotonic()
        self._live = sys.stderr.isatty() and not os.environ.get("CI")
        self._told = 0.0
        if not self._live:
            say(f"{title} …")

    def seconds(self) -> float:
        return time.monotonic() - self._started

    def show(self, last: str) -> None:
        """``last`` is what the command printed last."""
        if self._live:
            text = f"facellm: {self.title} … {self.seconds():.0f} s  {last}"
            sys.stderr.write("\r" + text[: shutil.get_terminal_size().columns - 1] + "\x1b[K")
            sys.stderr.flush()
        elif self.seconds() - self._told > HEARTBEAT:
            self._told = self.seconds()
            say(f"{self.title} … {self.seconds():.0f} s  {last[:100]}")

    def end(self, text: str) -> None:
        if self._live:
            sys.stderr.write("\r\x1b[K")
        say(text)


def _text(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode("utf-8", "replace")


def _last_line(log: Path, start: int) -> str:
    """The last line that says something, of at most 2 kB: llama.cpp's build prints megabytes."""
    lines = _text(log, max(start, log.stat().st_size - 2048)).splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
