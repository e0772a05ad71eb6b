"""How far a conversion is: steps, bytes, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

#: Told what is being done, bytes done and bytes in all.
Tell = Callable[[str, int, int], None]

#: Bytes after which is told again.
EVERY = 4 << 20


class Steps:
    """Adds up the steps' bytes, so that one bar shows all of the work."""

    def __init__(self, tell: Tell, work: Mapping[str, int]) -> None:
        self._tell, self._work = tell, dict(work)
        self._all = sum(work.values())
        self._told = 0

    def begin(self, step: str) -> Callable[[int], None]:
        """A function that is told of the bytes that the step has done since it was last told."""
        names = list(self._work)
        done = sum(self._work[name] for name in names[: names.index(step)]) if step in names else 0
        self._tell(step, done, self._all)
        self._told = done

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if done - self._told >= EVERY or done >= self._all:
                self._told = done
                self._tell(step, min(done, self._all), self._all)

        return advance
