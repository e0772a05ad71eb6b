"""``python -m facellm.models.ensure``: face models and the embedded model are there, or become so.

A second call only looks (about 60 ms with the start of Python), so that it may stand before every command.
"""

from __future__ import annotations

import sys
import time

from facellm.core.errors import FaceLLMError
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
            print(f"facellm: {stage} …", file=sys.stderr, flush=True)
        self._stage = stage

    def end(self) -> None:
        if self._live and self._stage:
            sys.stderr.write("\r\x1b[K")


def ensure_all(store: AssetStore, tell: Console) -> None:
    """Fetch and build what is missing. Raises the store's and the builder's errors."""
    for name in FACE_MODELS:
        if not store.file(name).is_file():
            title = store.asset(name).title
            store.ensure(name, lambda share, title=title: tell(f"fetching {title}", share))  # type: ignore[misc]
    from facellm.models.nano.build import build_nano, nano_is_current

    if not nano_is_current(store):
        build_nano(store, tell)
    tell.end()


def main() -> int:
    try:
        ensure_all(AssetStore(), Console())
    except FaceLLMError as error:
        print(f"facellm: {error}\n{error.hint}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
