"""Recipes: commented YAML files, read into dataclasses of settings that may hold further ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml

from facellm.core.errors import FaceLLMError

Settings = TypeVar("Settings")
_SAID = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", Path: "a path"}


class RecipeError(FaceLLMError):
    """A recipe that cannot be used."""


def read_yaml(path: Path) -> dict[str, Any]:
    """The recipe's table of settings. Raises ``RecipeError``."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"The recipe {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"The recipe {path} is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise RecipeError(f"The recipe {path} is not a table of settings.")
    return raw


def as_settings(kind: type[Settings], values: Any, where: str = "the recipe") -> Settings:
    """An object of the dataclass ``kind``; ``where`` names the table in errors. Raises ``RecipeError``."""
    if not isinstance(values, dict):
        raise RecipeError(f"{where} must be a table of settings, not {values!r}.")
    types = get_type_hints(kind)
    unknown = sorted(map(str, values.keys() - types.keys()))
    if unknown:
        raise RecipeError(f"{where} has no setting {', '.join(unknown)}.", f"It has {', '.join(sorted(types))}.")
    needed = [one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING]  # type: ignore[arg-type]
    missing = [name for name in needed if values.get(name) in (None, "")]
    if missing:
        raise RecipeError(f"{where} needs {', '.join(missing)}.")
    inside = "" if where == "the recipe" else f"{where}."
    return kind(**{key: _value(types[key], value, f"{inside}{key}") for key, value in values.items()})


def check_one_of(allowed: Mapping[str, tuple[str, tuple[str, ...]]]) -> None:
    """Setting → its value, and those it may have. Raises ``RecipeError``."""
    for name, (value, known) in allowed.items():
        if value not in known:
            raise RecipeError(f"{name} is {value!r}; it may be {', '.join(known)}.")


def check_positive(numbers: Mapping[str, float]) -> None:
    """Setting → its value. Raises ``RecipeError`` for one that is not more than 0."""
    for name, number in numbers.items():
        if not number > 0:
            raise RecipeError(f"{name} is {number}; it must be more than 0.")


def _value(wanted: Any, value: Any, where: str) -> Any:
    if is_dataclass(wanted):
        return as_settings(wanted, value, where)  # type: ignore[arg-type]
    inner = get_args(wanted)
    if type(None) in inner:
        return None if value is None else _value(inner[0], value, where)
    if get_origin(wanted) is list:
        return _texts(value, value if isinstance(value, list) else None, where, "a list of texts")
    if get_origin(wanted) is dict:
        return _texts(value, list(value.values()) if isinstance(value, dict) else None, where, "a table of texts")
    return _plain(wanted, value, where)


def _texts(value: Any, texts: list[Any] | None, where: str, said: str) -> Any:
    if texts is None or not all(isinstance(text, str) for text in texts):
        raise RecipeError(f"{where} is {said}, not {value!r}.")
    return value


def _plain(wanted: type[Any], value: Any, where: str) -> Any:
    """YAML reads ``1e-5`` (without a point) as text, and ``1`` and ``1.0`` as numbers of two kinds."""
    wrong = RecipeError(f"{where} is {_SAID[wanted]}, not {value!r}.")
    if isinstance(value, bool) != (wanted is bool) or isinstance(value, list | dict) or value is None:
        raise wrong
    if wanted is str and not isinstance(value, str):
        return str(value)  # a version such as 3, written without quotes
    try:
        found = wanted(value)
    except (TypeError, ValueError) as error:
        raise wrong from error
    if wanted is int and isinstance(value, float) and found != value:
        raise wrong
    return found
