"""The model as the window sees it: looked for, missing, being built, loading, ready, lost."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, cast

from PySide6.QtCore import QObject, Signal

from facellm.core.errors import FaceLLMError
from facellm.ui.tasks import ignore

if TYPE_CHECKING:
    from facellm.engine.protocol import EngineInfo, Loading
    from facellm.ui.build import Build
    from facellm.ui.ports import Backend
    from facellm.ui.tasks import Emit, Runner

#: An estimate made earlier than this jumps about (the first stage is over in milliseconds).
_ESTIMATE_AFTER_S, _ESTIMATE_AFTER_FRACTION = 1.0, 0.05


class Phase(Enum):
    """Where the model is."""

    LOOKING = "looking"
    MISSING = "missing"
    BUILDING = "building"
    LOADING = "loading"
    READY = "ready"
    LOST = "lost"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class EngineState:
    """``stage``: what is being done; ``fraction`` 0..1 or ``None``; ``message`` and ``hint``: of an error."""

    phase: Phase = Phase.LOOKING
    stage: str = ""
    fraction: float | None = None
    seconds_left: float | None = None
    message: str = ""
    hint: str = ""
    info: EngineInfo | None = None

    @property
    def busy(self) -> bool:
        """Whether something is on its way that ends by itself."""
        return self.phase in (Phase.LOOKING, Phase.BUILDING, Phase.LOADING)


class EnginePresenter(QObject):
    """Loads, builds, restarts and changes the model; the lane (one thread) is shared with the questions.

    What questions say of the engine counts only while the newest start has begun: before, it is of the model that goes.
    """

    changed = Signal()
    built = Signal()
    gone = Signal(object)

    def __init__(self, backend: Backend, lane: Runner, pool: Runner) -> None:
        super().__init__()
        self._backend, self._lane, self._pool = backend, lane, pool
        self._since = 0.0
        self._newest = self._begun = 0
        self._build: Build | None = None
        self.state = EngineState()

    def start(self) -> None:
        """Load the model in the background; questions asked meanwhile wait behind it."""
        self._since = time.monotonic()
        self._newest += 1
        number = self._newest
        self._set(EngineState(Phase.LOOKING))

        def job(emit: Emit) -> EngineInfo:
            emit(number)
            return self._backend.load(emit)

        self._lane.run(job, self.loaded, lambda error: self._not_started(number, error), self._start_event)

    def switch(self) -> None:
        """Another model was chosen: end the one before, whatever it does, and load."""
        if self._build is not None:
            self._build.cancel()
            self._build = None
        self._pool.run(lambda _: self._backend.let_go(), ignore, ignore)  # the lane may wait for its child
        self.start()

    def restart(self) -> None:
        """After ``LOST`` or ``FAILED``: try again."""
        if self.state.phase in (Phase.LOST, Phase.FAILED):
            self.start()

    def build(self) -> None:
        """Build the embedded model, then load it."""
        if self.state.phase not in (Phase.MISSING, Phase.FAILED):
            return
        self._since = time.monotonic()
        self._set(EngineState(Phase.BUILDING, "Preparing", 0.0))
        build = self._build = self._backend.new_build()
        self._pool.run(
            build.run,
            lambda _: self._built(build),
            lambda error: self._not_built(build, error),
            self._building,
        )

    def cancel_build(self) -> None:
        """Back to ``MISSING`` as soon as the build has ended; what was fetched is kept for the next attempt."""
        if self._build is not None and not self._build.cancelled:
            self._build.cancel()
            self._set(replace(self.state, stage="cancelling", seconds_left=None))

    def loading(self, event: object) -> None:
        """A ``Loading`` event, of the start or of a question that had to start a fresh child."""
        if self._begun != self._newest:
            return
        step = cast("Loading", event)
        if self.state.phase is not Phase.LOADING or step.stage != self.state.stage:  # shares are of one stage each
            self._since = time.monotonic()
        self._set(EngineState(Phase.LOADING, step.stage, step.fraction, self._left(step.fraction)))

    def loaded(self, result: object) -> None:
        """The model is there; a question says so each time, so only news is announced."""
        info = cast("EngineInfo", result)
        if self._begun != self._newest:
            return
        if self.state.phase is not Phase.READY or self.state.info != info:
            self._set(EngineState(Phase.READY, info=info))

    def lost(self, error: FaceLLMError) -> None:
        """The child process ended in the middle of an answer."""
        if self._begun == self._newest:
            self._set(EngineState(Phase.LOST, message=str(error), hint=error.hint))

    def failed(self, error: FaceLLMError) -> None:
        """The model could not be loaded: at the start, or for a question that needed a fresh child."""
        from facellm.models.nano.pair import NAME
        from facellm.models.packages import ModelMissing
        from facellm.ui.build import BuildNeeded, ModelDamaged

        if self._begun != self._newest:
            return
        if isinstance(error, ModelMissing) and self._backend.model != NAME:  # another can answer
            self.gone.emit(error)
        elif isinstance(error, BuildNeeded | ModelMissing):  # that something was never built needs no red line
            says = isinstance(error, ModelDamaged) or self._backend.model != NAME
            told = (str(error), error.hint) if says else ("", "")
            self._set(EngineState(Phase.MISSING, message=told[0], hint=told[1]))
        else:
            self._set(EngineState(Phase.FAILED, message=str(error), hint=error.hint))

    def _start_event(self, event: object) -> None:
        if isinstance(event, int):
            self._begun = event
        else:
            self.loading(event)

    def _not_started(self, number: int, error: FaceLLMError) -> None:
        if number == self._newest:
            self.failed(error)

    def _building(self, event: object) -> None:
        if self._build is None or self._build.cancelled:
            return
        stage, fraction = cast("tuple[str, float]", event)
        self._set(EngineState(Phase.BUILDING, stage, fraction, self._left(fraction)))

    def _built(self, build: Build) -> None:
        if build is self._build:  # else another model was chosen meanwhile
            self._build = None
            self.start()
            self.built.emit()

    def _not_built(self, build: Build, error: FaceLLMError) -> None:
        from facellm.ui.build import BuildCancelled

        if build is not self._build:
            return
        self._build = None
        message = "" if isinstance(error, BuildCancelled) else str(error)
        self._set(EngineState(Phase.MISSING, message=message, hint=error.hint))

    def _left(self, fraction: float) -> float | None:
        elapsed = time.monotonic() - self._since
        if elapsed < _ESTIMATE_AFTER_S or fraction < _ESTIMATE_AFTER_FRACTION:
            return None
        return elapsed * (1.0 - fraction) / fraction

    def _set(self, state: EngineState) -> None:
        self.state = state
        self.changed.emit()
