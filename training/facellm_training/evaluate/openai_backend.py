"""Any OpenAI-compatible server as a model to be evaluated; its key comes from ``OPENAI_API_KEY``."""

from __future__ import annotations

import base64
import io
import ipaddress
import math
import os
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from facellm.core.faces import RgbImage
from facellm_training.evaluate.backends import CONCLUDE, log_softmax
from facellm_training.evaluate.items import EvaluationError, Item, ItemRefused
from facellm_training.evaluate.journal import Reply

#: Alternatives of the first token that are asked for: as many as the API allows, as some servers do, none.
TOPS = (20, 5, 0)
#: Tokens of an answer where only its key matters: enough for "The answer is (C)." where a server tells no logs.
SHORT = 16
_RETRIES, _TIMEOUT_S = 6, 300.0
#: What OpenAI's newer models take in the place of max_tokens, which older servers do not know.
_NEWER = "max_completion_tokens"
#: Nats by which a key that is not listed lies below the least that is; the least that is left for such keys.
_BELOW, _NOTHING = 1e-6, 1e-12


class OpenAIBackend:
    """``name``: ``http://HOST/v1#MODEL``. Pictures are sent whole, as PNG; the server tiles them."""

    together = False

    def __init__(self, name: str, *, remote_allowed: bool = False) -> None:
        """Raises ``EvaluationError`` for an incomplete name, a missing key, or another machine without leave."""
        from openai import DefaultHttpxClient, OpenAI

        url, _, self._model = name.partition("#")
        host = urlsplit(url).hostname or ""
        if not self._model or not host:
            raise EvaluationError(f"{name} does not name a server and a model.", "Write http://HOST:PORT/v1#MODEL.")
        if not _is_here(host) and not remote_allowed:
            raise EvaluationError(
                f"The pictures would leave this computer: they would be sent to {host}.", "Add --yes if that is meant."
            )
        if not os.environ.get("OPENAI_API_KEY"):
            raise EvaluationError("OPENAI_API_KEY is not set.", "Put the server's key into that environment variable.")
        # A redirection, or a proxy before this computer's own server, would take the pictures elsewhere.
        http = DefaultHttpxClient(follow_redirects=False, trust_env=not _is_here(host), timeout=_TIMEOUT_S)
        self._client = OpenAI(base_url=url, max_retries=_RETRIES, timeout=_TIMEOUT_S, http_client=http)
        self._url = url
        self._tops = list(TOPS)
        self._limit = "max_tokens"
        self._settings: dict[str, Any] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """Raises ``EvaluationError`` when the server does not answer, or lists its models without this one."""
        if not self._settings:
            self._settings = {
                "backend": "openai", "server": self._url, "model": self._model, "decoding": "temperature 0", "seed": 0,
                "tiles": "the server's own", "says": self._listed(),
            }  # fmt: skip
        return self._settings

    def _listed(self) -> dict[str, Any]:
        """What a server of this product tells of its model (runtime, tile, context); {} of another one."""
        from openai import APIError, APIStatusError, AuthenticationError, PermissionDeniedError

        try:
            models = {model.id: model for model in self._client.models.list()}
        except (AuthenticationError, PermissionDeniedError) as error:
            raise self._failed(error) from error
        except (APIStatusError, ValueError, TypeError, AttributeError):
            return {}  # not every server has such a list
        except APIError as error:
            raise self._failed(error) from error
        if models and self._model not in models:
            some = ", ".join(sorted(models)[:12]) + (" …" if len(models) > 12 else "")
            raise EvaluationError(f"{self._url} has no model {self._model}.", f"It has: {some}.")
        about = (models[self._model].model_extra or {}).get("facellm") if models else None
        return dict(about) if isinstance(about, dict) else {}

    def _failed(self, error: Exception) -> EvaluationError:
        code = getattr(error, "status_code", None)
        if code in (401, 403):
            return EvaluationError(f"{self._url} does not take the key ({code}).", "Check OPENAI_API_KEY.")
        if code == 404:
            return EvaluationError(
                f"{self._url} knows no model {self._model}, or is no such server: {error}", "Check both parts."
            )
        return EvaluationError(
            f"{self._url} did not answer: {error}", "Run the same command again: it goes on where it was."
        )

    def answer(self, pictures: Sequence[RgbImage], items: Sequence[Item]) -> list[Reply]:
        seen = [{"type": "image_url", "image_url": {"url": _data_url(pixels)}} for pixels in pictures]
        return [self._one(seen, item) for item in items]

    def _one(self, seen: list[dict[str, Any]], item: Item) -> Reply:
        begun = time.monotonic()
        messages: list[Any] = [{"role": "user", "content": [*seen, {"type": "text", "text": item.prompt}]}]
        text, first = self._say(messages, item.max_tokens or SHORT)
        if item.think:
            messages += [{"role": "assistant", "content": text}, {"role": "user", "content": CONCLUDE}]
            first = self._say(messages, 1)[1]
        seconds = round(time.monotonic() - begun, 4)
        return Reply(key_logprobs(first, item.keys), text, seconds)

    def _say(self, messages: list[Any], max_tokens: int) -> tuple[str, dict[str, float]]:
        """The answer, and the logs of the most probable first tokens ({} where the server gives none)."""
        done = self._create(messages, max_tokens)
        if not done.choices:
            raise EvaluationError(f"{self._url} gave an empty answer.", "Run the same command again.")
        choice = done.choices[0]
        _check_asked(done, messages[-1]["content"])
        content = choice.logprobs.content if choice.logprobs else None
        first: dict[str, float] = {}
        for top in content[0].top_logprobs if content else ():
            key = top.token.strip()
            first[key] = float(math.log(math.exp(first.get(key, -math.inf)) + math.exp(max(top.logprob, -700.0))))
        return (choice.message.content or "").strip(), first

    def _create(self, messages: list[Any], max_tokens: int) -> Any:
        from openai import APIError, BadRequestError

        while True:
            top = self._tops[0]
            logs: dict[str, Any] = {"logprobs": True, "top_logprobs": top} if top else {}
            try:
                limit: dict[str, Any] = {self._limit: max_tokens}
                return self._client.chat.completions.create(
                    model=self._model, messages=messages, temperature=0, seed=0, **limit, **logs
                )
            except BadRequestError as error:
                if top and "logprob" in str(error).lower():
                    self._tops.pop(0)
                elif self._limit != _NEWER and _NEWER in str(error):
                    self._limit = _NEWER
                else:
                    raise ItemRefused(f"The server refused the question: {error}") from error
            except APIError as error:
                raise self._failed(error) from error

    def close(self) -> None:
        self._client.close()


def key_logprobs(first: dict[str, float], keys: Sequence[str]) -> tuple[float, ...] | None:
    """Log-probabilities of ``keys`` from those of the first token.

    A key that is not listed is less probable than all that are: it shares what they leave, at most the least of them.
    ``None`` where no key is among them: then only the free text can be scored. Words count with a capital, too.
    """
    ways = [{key} if len(key) == 1 else {key, key.capitalize()} for key in keys]
    found = [[first[way] for way in options if way in first] for options in ways]
    if not any(found):
        return None
    rest = max(1.0 - sum(map(math.exp, first.values())), _NOTHING) / (len(keys) - sum(map(bool, found)) or 1)
    # Below it, not equal: of two equals the first would count as the answer.
    least = min(min(first.values()) - _BELOW, math.log(rest))
    return log_softmax([math.log(sum(map(math.exp, logs))) if logs else least for logs in found])


def _check_asked(done: Any, content: Any) -> None:
    """Raises ``ItemRefused`` where this product's own server has refused or reworded what was asked."""
    about = (done.model_extra or {}).get("facellm") or {}
    prompt = content if isinstance(content, str) else content[-1]["text"]
    if done.choices[0].finish_reason == "content_filter" and about.get("topic"):
        raise ItemRefused(f"The server's policy does not let the model be asked ({about['topic']}).")
    if about.get("asked", prompt) != prompt:
        raise ItemRefused(f"The server's policy put another question in its place ({about.get('topic')}).")


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _data_url(pixels: RgbImage) -> str:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
