"""The model loads in its child process while this process reads the first photo."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Self

from facellm.engine.process import WAIT_S
from facellm.engine.protocol import Loading

if TYPE_CHECKING:
    from facellm.cli.output import Progress
    from facellm.engine.client import EngineClient

#: Seconds between two attempts to end a load that nobody waits for any more.
_AGAIN_S = 0.05


class ModelLoad:
    """Begins at once, in a thread that only waits for the child; leaving the context ends a load that still runs."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        self._steps: SimpleQueue[Loading | None] = SimpleQueue()
        self._thread = ThreadPoolExecutor(1, "facellm-load")
        self._loaded = self._thread.submit(client.load, self._steps.put)
        self._loaded.add_done_callback(lambda _: self._steps.put(None))
        self._thread.shutdown(wait=False)  # takes nothing more: the thread ends with the load

    def wait(self, progress: Progress) -> None:
        """Until there is a model to ask: also a fresh one, where the child has died since.

        Raises the engine's errors, those of the thread too.
        """
        if not self._loaded.done():
            while (step := self._next_step()) is not None:
                progress.loading(step)
        self._loaded.result()
        self._client.load(progress.loading)
        progress.clear()

    def _next_step(self) -> Loading | None:
        while True:
            try:
                return self._steps.get(timeout=WAIT_S)
            except Empty:  # on Windows only: a wait in pieces can be interrupted
                continue

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while not self._loaded.done():
            self._client.close()  # more than once: a load that is just beginning starts its child after this
            wait([self._loaded], _AGAIN_S)
        self._thread.shutdown()
