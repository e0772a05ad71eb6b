"""Which files form one model: the nano, packages in the model folders, or a folder or file given by path."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from facellm.core.command import command
from facellm.core.errors import FaceLLMError
from facellm.core.package import ModelPackage
from facellm.models.gguf_header import read_header
from facellm.models.nano.pair import NAME as NANO
from facellm.models.nano.pair import nano_package
from facellm.models.store import AssetStore

#: Larger pictures than this no model takes as one tile; the number is a typing error.
LARGEST_TILE = 4096

#: A model in several files is named by its first one; llama.cpp finds the others.
_LATER_SPLIT = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.gguf$")

Header = dict[str, Any]


class ModelMissing(FaceLLMError):
    """A model that was asked for is not there or not whole."""


def list_packages(store: AssetStore) -> list[ModelPackage]:
    """All whole packages in the model folders, the nano first."""
    found: dict[str, ModelPackage] = {}
    for root in (store.models, store.bundle / "models"):
        for folder in sorted(root.iterdir()) if root.is_dir() else ():
            if folder.is_dir() and not folder.name.startswith(".") and folder.name not in found:
                try:
                    found[folder.name] = _named(folder.name, store) or read_package(folder)
                except FaceLLMError:
                    continue
    return sorted(found.values(), key=lambda package: (package.name != NANO, package.name))


def find_package(name: str, store: AssetStore) -> ModelPackage:
    """The package called ``name``, or the one that ``name`` is a path of: a folder, or a language GGUF
    that has its mmproj GGUF beside it.

    Raises ``ModelMissing`` with what to do.
    """
    package = _named(name, store)
    if package is not None:
        return package
    if name == NANO:
        raise ModelMissing("The embedded model is not built yet.", f"Run: {command('models', 'build', 'nano')}")
    path = Path(name).expanduser()
    if name and path.is_dir():
        return read_package(path)
    if path.suffix.lower() == ".gguf":
        return _package_of_file(path)
    known = ", ".join(package.name for package in list_packages(store)) or "none"
    raise ModelMissing(
        f"There is no model called {name}. Known models: {known}.",
        f"Put its language GGUF and its mmproj GGUF into a folder in {store.models}, or give a folder's path.",
    )


def read_package(folder: Path) -> ModelPackage:
    """The package in ``folder``: one language GGUF and one whose architecture is ``clip``.

    An optional ``package.toml`` may set ``title``, ``licence`` and ``tile``. Raises ``ModelMissing``, or
    ``HeaderError`` for a file that is no GGUF.
    """
    language, eyes = sort_files(folder)
    if len(eyes) != 1 or len(language) != 1:
        raise ModelMissing(
            f"{folder} must hold one language GGUF and one mmproj GGUF; it holds {len(language)} and {len(eyes)}.",
            "Keep one model a folder, both files side by side, or give the path of the language GGUF.",
        )
    return package_of(folder.resolve().name, language, eyes, read_extra(folder / "package.toml"))


def _named(name: str, store: AssetStore) -> ModelPackage | None:
    """The package of that name in the user's folder, else in what was shipped; a shipped nano fits its program best."""
    if not name or name != Path(name).name or name.startswith("."):
        return None
    folders = [store.models / name, store.bundle / "models" / name]
    for folder in reversed(folders) if name == NANO else folders:
        if name == NANO and nano_package(folder).llm.is_file() and nano_package(folder).mmproj.is_file():
            return nano_package(folder)
        if name != NANO and folder.is_dir():
            return read_package(folder)
    return None


def _package_of_file(file: Path) -> ModelPackage:
    """A language GGUF given by path, with the only mmproj beside it or the one that carries the same pair id."""
    if not file.is_file():
        raise ModelMissing(f"There is no file {file}.", "Check the path.")
    chosen = read_header(file)
    if chosen.get("general.architecture") == "clip":
        raise ModelMissing(f"{file.name} is a model's image part.", "Give the path of the language GGUF beside it.")
    eyes = sort_files(file.parent)[1]
    if len(eyes) > 1:
        pair = chosen.get("facellm.pair")
        eyes = {path: header for path, header in eyes.items() if pair and header.get("facellm.pair") == pair}
    if len(eyes) != 1:
        raise ModelMissing(
            f"Beside {file.name} there must be exactly one mmproj GGUF that belongs to it.",
            "Put the model's two files into a folder of their own.",
        )
    return package_of(file.stem, {file: chosen}, eyes, {})


def sort_files(folder: Path) -> tuple[dict[Path, Header], dict[Path, Header]]:
    """Language files and image parts of a folder with their headers; a link to a file beside it does not count."""
    files = {file.resolve(): file for file in sorted(folder.glob("*.gguf"), key=os.path.islink, reverse=True)}
    headers = {file: read_header(file) for file in sorted(files.values()) if not _LATER_SPLIT.search(file.name)}
    eyes = {file: header for file, header in headers.items() if header.get("general.architecture") == "clip"}
    return {file: header for file, header in headers.items() if file not in eyes}, eyes


def package_of(
    name: str, language: dict[Path, Header], eyes: dict[Path, Header], extra: dict[str, object]
) -> ModelPackage:
    """The package of one language file and one image part, each with its header. Raises ``ModelMissing``."""
    (llm, about), (mmproj, sees) = *language.items(), *eyes.items()
    tile = extra.get("tile", sees.get("clip.vision.image_size"))
    if not isinstance(tile, int) or not 0 < tile <= LARGEST_TILE:
        raise ModelMissing(
            f"{mmproj.name} does not say how large its pictures are.", "Set tile = PIXELS in a package.toml beside it."
        )
    title = str(extra.get("title") or about.get("general.name") or name)
    licence = str(extra.get("licence") or about.get("general.license") or "")
    return ModelPackage(name, llm, mmproj, tile, title, licence)


def read_extra(path: Path) -> dict[str, object]:
    """What a ``package.toml`` sets; nothing where there is none. Raises ``ModelMissing``."""
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelMissing(f"{path} is not valid TOML: {error}", "Mend or delete it.") from error
