"""A model of the hub by its name: ``owner/name``, perhaps with ``@revision``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from facellm.core.errors import FaceLLMError

_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(.+))?", re.ASCII)
_REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9][\w./-]*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


class BadRevision(FaceLLMError):
    """A revision that none can be, or two different ones."""


@dataclass(frozen=True, slots=True)
class HubId:
    """A model of the hub: ``owner/name``, and a branch, tag or commit of it."""

    repo: str
    revision: str = "main"

    @property
    def name(self) -> str:
        """Without its owner."""
        return self.repo.partition("/")[2]

    def storage(self, root: Path) -> Path:
        """The model's folder in a cache."""
        return root / f"models--{self.repo.replace('/', '--')}"

    def commit_in(self, root: Path) -> str:
        """The commit that the revision was when it was last fetched; empty when it never was."""
        if _COMMIT.fullmatch(self.revision):
            return self.revision
        try:
            found = (self.storage(root) / "refs" / self.revision).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""
        return found if _COMMIT.fullmatch(found) else ""


def read_hub_id(text: str, revision: str = "") -> HubId | None:
    """The model that ``text`` names; ``None`` where it is no such name. Raises ``BadRevision``."""
    found = _HUB_ID.fullmatch(text)
    if found is None:
        return None
    if revision and found[2] and revision != found[2]:
        raise BadRevision(f"{text} names another revision than {revision}.", "Name one of them.")
    wanted = revision or found[2] or "main"
    if not _REVISION.fullmatch(wanted):
        raise BadRevision(f"{wanted!r} is no revision.", "Give a branch, a tag or a commit.")
    return HubId(found[1], wanted)
