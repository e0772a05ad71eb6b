"""JSON files of a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facellm_converters.errors import BadCheckpoint


def read_json(path: Path) -> Mapping[str, Any]:
    """A JSON object. Raises ``BadCheckpoint``."""
    if not path.parent.is_dir():
        raise BadCheckpoint(f"There is no folder {path.parent}.", "Check the path, or give a hub id like owner/name.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadCheckpoint(
            f"{path.parent} holds no {path.name}.", "Give the folder that save_pretrained wrote."
        ) from error
    except (OSError, ValueError) as error:
        raise BadCheckpoint(f"{path.name} cannot be read: {error}.", "Fetch it again.") from error
    if not isinstance(found, dict):
        raise BadCheckpoint(f"{path.name} is not an object.", "Fetch it again.")
    return found
