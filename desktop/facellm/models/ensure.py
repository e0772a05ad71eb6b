"""``python -m facellm.models.ensure``: face models and the embedded model are there, or become so.

A second call only looks (about 60 ms with the start of Python), so that it may stand before every command.
"""

from __future__ import annotations

import sys
import time
from functools import partial

from facellm.core.errors import FaceLLMError
from facellm.models.nano.pair import nano_is_current
from facellm.models.store import AssetStore

FACE_MODELS = ("face-landmarker", "yunet")


class Console:
    """Progress on standard error: one line that renews itself on a terminal, one line a stage elsewhere."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._stage, self._shown = "", 0.0

    def __call__(self, stage: str, share: float) -> None:
        if self._live and (time.monotonic() - self._shown > 0.1 or share >= 1):
            sys.stderr.write(f"\rfacellm: {stage} … {100 * share:3.0f} % \x1b[K")
            sys.stderr.flush()
            self._shown = time.monotonic()
        elif not self._live and stage != self._stage:
            sys.stderr.write(f"facellm: {stage} …\n")
            sys.stderr.flush()
        self._stage = stage

    def end(self) -> None:
        if self._live and self._stage:
            sys.stderr.write("\r\x1b[K")


def ensure_all(store: AssetStore, tell: Console) -> None:
    """Fetch and build what is missing, damaged or out of date. Raises the store's and the builder's errors."""
    for name in FACE_MODELS:
        store.ensure(name, partial(tell, f"fetching {store.asset(name).title}"))
    if not nano_is_current(store):
        from facellm.models.nano.build import build_nano  # numpy and more, only when needed

        build_nano(store, tell)
    tell.end()


def main() -> int:
    """Exit code 0, or 1 with the reason on standard error."""
    try:
        ensure_all(AssetStore(), Console())
    except FaceLLMError as error:
        sys.stderr.write(f"facellm: {error}\n{error.hint}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
