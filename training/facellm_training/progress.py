"""Progress of long copying and converting, in lines of text."""

from __future__ import annotations

from collections.abc import Callable

#: Points between two lines.
STEP = 10


def percent(say: Callable[[str], None]) -> Callable[[str, int, int], None]:
    """A function that is told what is being done, how much of it and of how much, and says every tenth."""
    last = ("", -STEP)

    def tell(what: str, done: int, total: int) -> None:
        nonlocal last
        share = 100 * done // total if total else 100
        if what != last[0] or share >= last[1] + STEP:
            last = (what, share)
            say(f"{what}: {share} %")

    return tell
