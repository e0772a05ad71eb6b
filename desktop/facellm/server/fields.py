"""``response_format`` as closed questions: what the engine can hold an answer to, it does; the rest is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from facellm.core.prompt import YES_NO, choice_keys
from facellm.server.checks import plain
from facellm.server.errors import ApiError

_PARAM = "response_format"
_HINT = "A schema may be an enum of texts, or an object whose properties are enums of texts or booleans."
#: Each property is a question to the model.
MOST_FIELDS = 32


@dataclass(frozen=True, slots=True)
class Field:
    """A closed question. ``name``: the property its answer is written to; "" when the answer is the whole content."""

    name: str
    question: str
    choices: tuple[str, ...]
    boolean: bool = False
    quoted: bool = False

    def value(self, choice: str) -> str | bool:
        """What is written for the choice that was taken."""
        return choice == YES_NO[0] if self.boolean else choice


def read_format(value: Any, question: str) -> tuple[Field, ...]:
    """The closed questions of a JSON schema; none for free text. ``question``: what the user asked.

    A property is asked by its description; without one by ``question`` if it is the only one, else by its name.
    Raises ``ApiError``.
    """
    if value is None or (isinstance(value, dict) and value.get("type") == "text"):
        return ()
    if not isinstance(value, dict) or value.get("type") != "json_schema":
        raise ApiError(
            "This response_format cannot be guaranteed.", "Use json_schema.", code="unsupported", param=_PARAM
        )
    wrapper = value.get("json_schema")
    schema = wrapper.get("schema") if isinstance(wrapper, dict) else None
    if not isinstance(schema, dict):
        raise ApiError("response_format has no json_schema.schema.", _HINT, param=_PARAM)
    if "enum" in schema:
        return (_field("", schema, question),)
    properties = schema.get("properties")
    if schema.get("type") != "object" or not isinstance(properties, dict) or not 1 <= len(properties) <= MOST_FIELDS:
        raise ApiError("This schema cannot be guaranteed.", _HINT, code="unsupported", param=_PARAM)
    alone = question if len(properties) == 1 else ""
    return tuple(_field(name, one, _question(name, one, alone)) for name, one in properties.items())


def _question(name: str, schema: Any, alone: str) -> str:
    said = schema.get("description") if isinstance(schema, dict) else None
    return said if isinstance(said, str) else alone or f"{name.replace('_', ' ')}?"


def _field(name: str, schema: Any, question: str) -> Field:
    if not isinstance(schema, dict):
        raise ApiError("A property of the schema is no object.", _HINT, param=_PARAM)
    boolean = schema.get("type") == "boolean" and "enum" not in schema
    choices = list(YES_NO) if boolean else schema.get("enum")
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise ApiError(
            f"The property {name} cannot be guaranteed." if name else "The enum must hold texts.",
            _HINT, code="unsupported", param=_PARAM,
        )  # fmt: skip
    try:
        choice_keys(tuple(choices))
    except ValueError as error:
        raise ApiError(f"The enum {name} cannot be used: {error}.", param=_PARAM) from error
    for text in (name, question, *choices):
        plain(text, _PARAM)
    return Field(name, question, tuple(choices), boolean, quoted=True)
