"""Which files form one model: the nano, packages in the user's model folder, or a folder given by path."""

from __future__ import annotations

import tomllib
from pathlib import Path

from facellm.core.errors import FaceLLMError
from facellm.core.package import ModelPackage
from facellm.models.gguf_header import read_header
from facellm.models.nano.build import NAME as NANO
from facellm.models.nano.build import nano_package
from facellm.models.store import AssetStore


class ModelMissing(FaceLLMError):
    """A model that was asked for is not there or not whole."""


def list_packages(store: AssetStore) -> list[ModelPackage]:
    """All whole packages in the model folder, the nano first."""
    found = []
    if store.models.is_dir():
        for folder in sorted(store.models.iterdir()):
            if folder.is_dir() and not folder.name.startswith("."):
                try:
                    found.append(read_package(folder))
                except FaceLLMError:
                    continue
    return sorted(found, key=lambda package: (package.name != NANO, package.name))


def find_package(name: str, store: AssetStore) -> ModelPackage:
    """The package called ``name``, or the one in the folder that ``name`` is a path of.

    Raises ``ModelMissing`` with what to do.
    """
    folder = store.models / name
    if folder.is_dir():
        return read_package(folder)
    if Path(name).is_dir():
        return read_package(Path(name))
    if name == NANO:
        raise ModelMissing("The embedded model is not built yet.", "Run: facellm models build nano")
    known = ", ".join(package.name for package in list_packages(store)) or "none"
    raise ModelMissing(
        f"There is no model called {name}. Known models: {known}.",
        f"Put its language GGUF and its mmproj GGUF into {folder}, or give a folder's path.",
    )


def read_package(folder: Path) -> ModelPackage:
    """The package in ``folder``: one language GGUF and one whose architecture is ``clip``.

    An optional ``package.toml`` may set ``title``, ``licence`` and ``tile``. Raises ``ModelMissing``.
    """
    if folder.name == NANO and nano_package(folder).llm.is_file() and nano_package(folder).mmproj.is_file():
        return nano_package(folder)
    files = sorted(folder.glob("*.gguf"))
    headers = {file: read_header(file) for file in files}
    eyes = [file for file in files if headers[file].get("general.architecture") == "clip"]
    language = [file for file in files if file not in eyes]
    if len(eyes) != 1 or len(language) != 1:
        raise ModelMissing(
            f"{folder} must hold one language GGUF and one mmproj GGUF; it holds {len(language)} and {len(eyes)}.",
            "Keep one model a folder, both files side by side.",
        )
    extra = _read_extra(folder / "package.toml")
    tile = int(str(extra.get("tile") or headers[eyes[0]].get("clip.vision.image_size") or 0))
    if tile <= 0:
        raise ModelMissing(f"{eyes[0].name} does not say how large its pictures are.", "Set tile in package.toml.")
    title = str(extra.get("title") or headers[language[0]].get("general.name") or folder.name)
    licence = str(extra.get("licence") or headers[language[0]].get("general.license") or "")
    return ModelPackage(folder.name, language[0], eyes[0], tile, title, licence)


def _read_extra(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ModelMissing(f"{path} is not valid TOML: {error}", "Mend or delete it.") from error
