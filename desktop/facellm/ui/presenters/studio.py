"""The window as a whole, without widgets: models, photo and conversation joined, and the words they add up to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from facellm.core.errors import FaceLLMError
from facellm.core.faces import WHOLE
from facellm.ui import words
from facellm.ui.presenters.conversation import ConversationPresenter, Exchange
from facellm.ui.presenters.engine import EnginePresenter, Phase
from facellm.ui.presenters.importing import ImportPresenter
from facellm.ui.presenters.models import ModelsPresenter
from facellm.ui.presenters.photo import PhotoPresenter

if TYPE_CHECKING:
    from facellm.ui.importing import ImportedModel
    from facellm.ui.ports import Backend
    from facellm.ui.tasks import Runner


class Studio(QObject):
    """``lane`` is one thread, for all that the engine does, in order; ``pool`` is for the rest.

    ``model_gone`` has a sentence and what was done about it.
    """

    model_gone = Signal(str, str)

    def __init__(self, backend: Backend, lane: Runner, pool: Runner) -> None:
        super().__init__()
        self._backend, self._lane, self._pool = backend, lane, pool
        self.engine = EnginePresenter(backend, lane, pool)
        self.models = ModelsPresenter(backend, pool)
        self.importing = ImportPresenter(backend, pool)
        self.photo = PhotoPresenter(backend, pool)
        self._answering = ""
        self.conversation = ConversationPresenter(backend, lane)
        self.photo.opened_changed.connect(self._photo_opened)
        self.conversation.engine_loading.connect(self.engine.loading)
        self.conversation.engine_loaded.connect(self.engine.loaded)
        self.conversation.engine_lost.connect(self.engine.lost)
        self.conversation.engine_failed.connect(self.engine.failed)
        self.engine.built.connect(self.photo.retry)
        self.engine.gone.connect(self._model_gone)
        self.engine.changed.connect(self._engine_changed)
        self.importing.imported.connect(self._imported)
        self.photo.removed.connect(self.conversation.forget)

    def begin(self, model: str = "") -> None:
        """Load the model of this name, else the embedded one, in the background."""
        self.models.begin_with(model)
        self.engine.start()
        self.models.refresh()

    def use(self, model: str) -> None:
        """Have another model answer. What runs is stopped; the photo and all that was said stay, for it as well."""
        if model != self.models.current or self.engine.state.phase not in (Phase.LOOKING, Phase.LOADING, Phase.READY):
            self._change(model)

    def use_imported(self) -> None:
        """Have the model answer that was just imported, even in the place of its former files."""
        self._change(self.importing.state.name)
        self.importing.seen()

    @property
    def needs_model(self) -> bool:
        """Whether there is nothing to ask until a model is built."""
        return self.engine.state.phase in (Phase.MISSING, Phase.BUILDING)

    @property
    def can_ask(self) -> bool:
        """Whether a question can be put: something is chosen and there is, or will be, a model."""
        return self.photo.chosen is not None and not self.needs_model

    def ask(self, text: str) -> None:
        """Ask about what is chosen."""
        if self.can_ask and self.photo.chosen is not None:
            self.conversation.ask(self.photo.chosen, text)

    def exchanges(self) -> tuple[Exchange, ...]:
        """The conversation about what is chosen."""
        return self.conversation.exchanges(self.photo.chosen)

    def received(self) -> Exchange | None:
        """The newest exchange about what is chosen that reached the model."""
        return next((e for e in reversed(self.exchanges()) if e.answer is not None and e.prompt), None)

    def photo_line(self) -> str:
        """Name, size and number of faces of what is open."""
        if self.photo.opening:
            return f"Opening {self.photo.opening}…"
        opened = self.photo.opened
        if opened is None:
            return ""
        photo, count = opened.photo, len(opened.faces)
        faces = words.plural(count, "face") if count else "no face"
        return f"{Path(photo.name).name} · {photo.width} × {photo.height} · {faces}"

    def fact_line(self) -> str:
        """What was measured on what is chosen."""
        opened, face = self.photo.opened, self.photo.face
        if opened is None or self.photo.chosen is None:
            return ""
        if face is not None:
            from facellm.vision.facts import describe_facts

            return words.joined(describe_facts(face.facts))
        return words.joined([f"{opened.photo.width} × {opened.photo.height} px", *opened.photo.notes])

    def placeholder(self) -> str:
        """What the empty question field says."""
        if self.needs_model:
            return "A model is needed first"
        if self.photo.chosen is None:
            return "Open a photo first" if self.photo.opened is None else "Nothing is chosen yet"
        return "Ask about the whole picture…" if self.photo.chosen == WHOLE else f"Ask about face {self.photo.chosen}…"

    def empty_text(self) -> str:
        """What stands where the conversation will be."""
        if self.photo.opened is None:
            return "Open a photo, choose a face, ask."
        if self.photo.chosen is None:
            return "No face was found. Draw a box round one, or ask about the picture as a whole."
        about = "the whole picture" if self.photo.chosen == WHOLE else f"face {self.photo.chosen}"
        return f"Nothing asked about {about} yet.\nUse your own words, or one of the buttons below."

    def close(self) -> None:
        """Stop what runs, end the child process, wait for the threads."""
        self.conversation.stop()
        self.engine.cancel_build()
        self.importing.cancel()
        self._backend.interrupt()
        self._lane.close()
        self._pool.close()
        self._backend.close()

    def _photo_opened(self) -> None:
        if self.photo.opened is not None:
            self.conversation.reset(self.photo.opened)

    def _change(self, model: str) -> None:
        self.conversation.stop()
        self.models.choose(model)
        self.engine.switch()

    def _model_gone(self, error: FaceLLMError) -> None:
        from facellm.models.nano.pair import NAME

        self._change(NAME)
        self.models.refresh()
        self.model_gone.emit(str(error), "The embedded one answers instead.")

    def _engine_changed(self) -> None:
        info = self.engine.state.info
        if info is not None and info.model != self._answering:
            self._answering = info.model
            self.photo.renew_tile()

    def _imported(self, _: ImportedModel) -> None:
        self.models.refresh()
        if self.needs_model:
            self.use_imported()
