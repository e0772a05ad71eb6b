"""Building the embedded model from the window, in a process of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from facellm.core.child import end_with_parent
from facellm.core.errors import FaceLLMError
from facellm.ui.child import ChildTask


class BuildCancelled(FaceLLMError):
    """The user ended the build."""


class BuildFailed(FaceLLMError):
    """The build could not be finished."""


class BuildNeeded(FaceLLMError):
    """What a build brings is not on this computer."""


class ModelDamaged(BuildNeeded):
    """It is on this computer, and of no use; a build puts it right."""


class Build(ChildTask):
    """One build; ``run`` keeps its thread busy, ``cancel`` comes from another, at any time, and does not wait."""

    module = "facellm.ui.build"
    what = "build"
    cancelled_error, failed_error = BuildCancelled, BuildFailed
    needs = "Check that 2 GB of memory and 1 GB of disk are free, then try again."

    def run(self, emit: Callable[[object], None]) -> None:
        """Build, and emit (stage, share 0..1 of the whole) pairs; returns when the child is gone.

        Raises ``BuildCancelled``, ``BuildFailed``.
        """
        self._run(lambda message: emit((message["stage"], message["share"])))


def main() -> None:
    """The child: fetch and build what is missing, damaged or out of date, and say how far it is."""
    from facellm.models.ensure import FACE_MODELS
    from facellm.models.nano.build import build_nano
    from facellm.models.nano.pair import NAME, damaged_files, nano_is_current
    from facellm.models.packages import find_package
    from facellm.models.store import AssetStore

    end_with_parent()
    try:
        store = AssetStore()
        for name in FACE_MODELS:
            _tell("fetching the face models", 0.0)
            store.ensure(name)
        if not nano_is_current(store) or damaged_files(find_package(NAME, store).llm.parent) != []:
            build_nano(store, _tell)
    except FaceLLMError as error:
        _write({"error": str(error), "hint": error.hint})
    except KeyboardInterrupt:
        sys.exit(1)


def _tell(stage: str, share: float) -> None:
    _write({"stage": stage, "share": share})


def _write(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
