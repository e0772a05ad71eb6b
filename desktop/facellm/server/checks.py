"""Single values of a request: in their range, or an error that names the field."""

from __future__ import annotations

from typing import Any

from facellm.server.errors import ApiError

#: Taken notice of elsewhere.
_READ = {
    "facellm", "logprobs", "max_completion_tokens", "max_tokens", "messages", "model", "response_format", "seed",
    "stop", "stream", "stream_options", "temperature", "top_logprobs",
}  # fmt: skip
#: Without influence on what a client gets from a server that answers one request at a time and keeps nothing.
_HARMLESS = {
    "metadata", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_retention", "reasoning_effort",
    "safety_identifier", "service_tier", "user", "verbosity",
}  # fmt: skip
#: What cannot be honoured, with the values that ask for nothing.
_NOTHING: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "n": (1,),
    "prediction": (),
    "presence_penalty": (0,),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "web_search_options": (),
}


def check_ignored(row: dict[str, Any]) -> None:
    """Raises ``ApiError`` for a field whose wish cannot be granted, and for one that is not known."""
    for name, value in row.items():
        if name in _READ or name in _HARMLESS or value is None:
            continue
        if name == "top_p":
            # The engine draws from the likeliest 95 % always; at temperature 0 nothing is drawn.
            if value not in (1, 0.95) and row.get("temperature"):
                raise ApiError("top_p cannot be set.", "Leave it out: it is 0.95.", code="unsupported", param=name)
        elif name not in _NOTHING:
            raise ApiError(f"There is no field {name}.", "Leave it out.", code="unknown_parameter", param=name)
        elif value not in _NOTHING[name] or isinstance(value, bool) != (name == "store"):
            raise ApiError(f"{name} cannot be honoured here.", "Leave it out.", code="unsupported", param=name)


def number(row: dict[str, Any], name: str, default: float, low: float, high: float) -> float:
    """A number in ``low``…``high``; ``default`` where there is none. Raises ``ApiError``."""
    value = row.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ApiError(f"{name} must be a number from {low:g} to {high:g}.", param=name)
    return float(value)


def integer(row: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    """A whole number in ``low``…``high``; ``default`` where there is none. Raises ``ApiError``."""
    value = row.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ApiError(f"{name} must be a whole number from {low} to {high}.", param=name)
    return value


def text_list(row: dict[str, Any], name: str, most: int) -> tuple[str, ...]:
    """A text or a list of at most ``most``, none of them empty. Raises ``ApiError``."""
    value = row.get(name)
    if value is None:
        return ()
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or len(texts) > most or not all(isinstance(text, str) and text for text in texts):
        raise ApiError(f"{name} takes up to {most} texts that are not empty.", param=name)
    return tuple(plain(text, name) for text in texts)


def plain(text: str, param: str) -> str:
    """``text`` if it can be written in UTF-8. Raises ``ApiError``."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ApiError("A text holds half a character (a lone surrogate).", param=param) from error
    return text
