"""Cuts an answer before the first stop text and takes white space from its end, also while it streams."""

from __future__ import annotations


class Stops:
    """Text that may be the beginning of a stop text, or the end of the answer, is held back until that is clear."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self._over = False

    def add(self, text: str) -> str:
        """What can be shown now that ``text`` has come."""
        if self._over:
            return ""
        self._held += text
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        self._over = bool(places)
        return self._taken(min(places) if places else len(self._held) - self._unsure())

    def rest(self) -> str:
        """What was held back when nothing more comes."""
        return "" if self._over else self._taken(len(self._held))

    def _taken(self, count: int) -> str:
        shown = self._held[:count].rstrip()
        self._held = self._held[len(shown) :]
        return shown

    def _unsure(self) -> int:
        """How many of the last characters may begin a stop text."""
        lengths = (
            length
            for stop in self._stops
            for length in range(min(len(stop) - 1, len(self._held)), 0, -1)
            if self._held.endswith(stop[:length])
        )
        return max(lengths, default=0)
