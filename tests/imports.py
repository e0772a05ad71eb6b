"""What tests of importing a model share: the embedded model's files in somebody's folder, and what is left."""

from __future__ import annotations

import os
from pathlib import Path

from facellm.core.package import ModelPackage


def linked(package: ModelPackage, folder: Path) -> Path:
    """The package's own two files in ``folder``, without a copy."""
    folder.mkdir()
    for file in (package.llm, package.mmproj):
        os.link(file, folder / file.name)
    return folder


def put(package: ModelPackage, folder: Path, title: str = "") -> Path:
    """The package under another name; links, not copies."""
    folder.mkdir(parents=True)
    for file in (package.llm, package.mmproj):
        (folder / file.name).symlink_to(file.resolve())
    if title:
        (folder / "package.toml").write_text(f'title = "{title}"\n')
    return folder


def left(home: Path) -> list[str]:
    """Names in the model folder, hidden ones too."""
    models = home / "models"
    return sorted(path.name for path in models.iterdir()) if models.exists() else []
