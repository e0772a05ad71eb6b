"""The teacher's server: how it is reached, what it is called before pictures go there, what its errors mean."""

from __future__ import annotations

import email.utils
import ipaddress
import os
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import openai
from openai import AsyncOpenAI

from facellm.core.errors import FaceLLMError
from facellm_training.annotate.recipe import Teacher


class ServerError(FaceLLMError):
    """The teacher's server cannot be used."""


class NoKey(ServerError):
    """No key in the environment."""


class WrongKey(ServerError):
    """The server does not take the key."""


class ModelMissing(ServerError):
    """The server has no such model."""


class ServerGone(ServerError):
    """The server does not answer."""


@dataclass(frozen=True, slots=True)
class Address:
    """``name``: host and port as a person should read them, without any password; ``here``: on this computer."""

    name: str
    here: bool
    encrypted: bool

    def said(self) -> str:
        if self.here:
            return f"{self.name} (this computer)"
        return self.name if self.encrypted else f"{self.name} (not encrypted)"


def address(base_url: str) -> Address:
    """Where a base URL leads. Raises ``ServerError`` for one that is none."""
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ServerError(f"The server's address {base_url!r} is not valid: {error}.") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ServerError(
            f"The server's address {base_url!r} is not valid.", "It looks like https://api.openai.com/v1."
        )
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost"
    return Address(f"{parts.scheme}://{host}{f':{port}' if port else ''}", here, parts.scheme == "https")


def connect(teacher: Teacher, timeout_s: float) -> AsyncOpenAI:
    """A client that follows no redirects (pictures go to the named server only) and never retries by itself.

    Raises ``NoKey``. The key is read from the environment and kept by the client alone.
    """
    key = os.environ.get(teacher.key_env, "").strip()
    if not key:
        raise NoKey(
            f"There is no key: the environment variable {teacher.key_env} is not set.",
            f"Set {teacher.key_env} to the server's key; it is not stored.",
        )
    # A proxy from the environment would take pictures off this computer.
    http = openai.DefaultAsyncHttpxClient(follow_redirects=False, trust_env=not address(teacher.base_url).here)
    return AsyncOpenAI(api_key=key, base_url=teacher.base_url, max_retries=0, timeout=timeout_s, http_client=http)


async def check(client: AsyncOpenAI, teacher: Teacher) -> None:
    """Ask the server for its models before any picture is sent.

    Raises ``WrongKey``, ``ModelMissing`` or ``ServerGone``. A server without such a list passes.
    """
    try:
        models = [model.id async for model in client.models.list()]
    except (openai.AuthenticationError, openai.PermissionDeniedError, openai.APIConnectionError) as error:
        raise meaning(error, teacher) from error
    except (openai.APIStatusError, ValueError, TypeError, AttributeError):
        return
    if models and teacher.model not in models:
        some = ", ".join(sorted(models)[:12]) + (" …" if len(models) > 12 else "")
        raise ModelMissing(
            f"{address(teacher.base_url).name} has no model {teacher.model!r}.", f"It has {some}. Set teacher.model."
        )


def meaning(error: openai.APIError, teacher: Teacher) -> ServerError:
    """An error that ends a run, as a sentence."""
    where = address(teacher.base_url).name
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return WrongKey(
            f"{where} does not take the key ({error.status_code}).", f"Check the variable {teacher.key_env}."
        )
    if isinstance(error, openai.NotFoundError):
        return ModelMissing(
            f"{where} does not know the model {teacher.model!r} or this address.", "Check teacher.model and base_url."
        )
    if isinstance(error, openai.APIConnectionError):
        return ServerGone(
            f"{where} cannot be reached.",
            "Check that it runs, and teacher.base_url. Run the command again: it goes on where it was.",
        )
    return ServerError(f"{where} refuses: {said(error)}")


def said(error: Exception) -> str:
    """A server's own sentence, short, on one line."""
    inner = getattr(error, "body", None)
    text = inner.get("message") if isinstance(inner, dict) else None
    return " ".join(str(text or error).split())[:300]


def never_left(error: openai.APIError) -> bool:
    """Whether no connection was made at all, so that nothing can have been answered."""
    names = {type(cause).__name__ for cause in (error.__cause__, error.__context__) if cause is not None}
    return bool(names & {"ConnectError", "ConnectTimeout", "PoolTimeout"})


def retry_after(error: openai.APIStatusError) -> float | None:
    """Seconds that a server asks to wait, or ``None``."""
    headers = error.response.headers
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name)
        if not text:
            continue
        try:
            return max(0.0, float(text) / unit)
        except ValueError:
            when = email.utils.parsedate_tz(text)
            if when is not None:
                return max(0.0, email.utils.mktime_tz(when) - time.time())
    return None
