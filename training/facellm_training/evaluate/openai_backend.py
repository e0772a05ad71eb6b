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


class OpenAIBackend:
    """``name``: ``http://HOST/v1#MODEL``. Pictures are sent whole, as PNG; the server tiles them."""

    together = False

    def __init__(self, name: str, *, remote_allowed: bool = False) -> None:
        """Raises ``EvaluationError`` for an incomplete name, a missing key, or another machine without leave."""
        from openai import OpenAI

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
        self._client = OpenAI(base_url=url, max_retries=_RETRIES, timeout=_TIMEOUT_S)
        self._url = url
        self._tops = list(TOPS)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "backend": "openai", "server": self._url, "model": self._model, "decoding": "temperature 0", "seed": 0,
            "tiles": "the server's own",
        }  # fmt: skip

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
                return self._client.chat.completions.create(
                    model=self._model, messages=messages, max_tokens=max_tokens, temperature=0, seed=0, **logs
                )
            except BadRequestError as error:
                if not top or "logprob" not in str(error).lower():
                    raise ItemRefused(f"The server refused the question: {error}") from error
                self._tops.pop(0)
            except APIError as error:
                raise EvaluationError(
                    f"{self._url} did not answer: {error}.", "Run the same command again: it goes on where it was."
                ) from error

    def close(self) -> None:
        self._client.close()


def key_logprobs(first: dict[str, float], keys: Sequence[str]) -> tuple[float, ...] | None:
    """Log-probabilities of ``keys`` from those of the first token; a key that is not listed gets the least listed.

    ``None`` where no key is among them: then only the free text can be scored. Words count with a capital, too.
    """
    ways = [{key} if len(key) == 1 else {key, key.capitalize()} for key in keys]
    found = [[first[way] for way in options if way in first] for options in ways]
    if not any(found):
        return None
    least = min(first.values())
    return log_softmax([math.log(sum(map(math.exp, logs))) if logs else least for logs in found])


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
