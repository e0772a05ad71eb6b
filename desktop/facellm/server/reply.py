"""Answers in OpenAI's form: whole, as chunks of a stream, and the list of models."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator
from typing import Any

from facellm.engine.protocol import EngineInfo, Token
from facellm.server.chat import Ended, Part, Piece
from facellm.server.request import ChatRequest


class Reply:
    """One answer to ``request``. ``fingerprint``: what computed it."""

    def __init__(self, request: ChatRequest, fingerprint: str) -> None:
        self._request = request
        self._base = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": request.model,
            "system_fingerprint": fingerprint,
        }

    def whole(self, parts: Iterable[Part]) -> dict[str, Any]:
        """The answer at once."""
        texts: list[str] = []
        tokens: list[Token] = []
        ended = Ended("stop")
        for part in parts:
            if isinstance(part, Ended):
                ended = part
                continue
            texts.append(part.text)
            tokens += [part.token] if part.token is not None else []
        message = {"role": "assistant", "content": "".join(texts), "refusal": None}
        logprobs = {"content": [_token_row(token) for token in tokens]} if self._request.top >= 0 else None
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": ended.finish}
        row = {**self._base, "object": "chat.completion", "choices": [choice], "usage": _usage(ended)}
        return {**row, "facellm": ended.more} if ended.more else row

    def chunks(self, parts: Iterable[Part]) -> Iterator[dict[str, Any]]:
        """The answer in pieces; usage in a last one of its own where the client wants it."""
        yield self._chunk({"role": "assistant", "content": ""})
        for part in parts:
            if isinstance(part, Piece):
                if part.text or part.token is not None:
                    yield self._chunk({"content": part.text}, part.token)
                continue
            last = self._chunk({}, finish=part.finish)
            yield {**last, "facellm": part.more} if part.more else last
            if self._request.include_usage:
                yield {**self._base, "object": _CHUNK, "choices": [], "usage": _usage(part)}

    def _chunk(self, delta: dict[str, str], token: Token | None = None, finish: str | None = None) -> dict[str, Any]:
        logprobs = {"content": [_token_row(token)]} if token is not None else None
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        row = {**self._base, "object": _CHUNK, "choices": [choice]}
        return {**row, "usage": None} if self._request.include_usage else row


_CHUNK = "chat.completion.chunk"


def model_row(name: str, tile: int, created: int, info: EngineInfo | None) -> dict[str, Any]:
    """One entry of ``/v1/models``. ``tile``: side in pixels of what the model sees; ``created``: Unix seconds."""
    about: dict[str, Any] = {"tile": tile}
    if info is not None:
        about |= {"title": info.model, "context": info.context, "device": info.device, "runtime": info.runtime}
    return {"id": name, "object": "model", "created": created, "owned_by": "facellm", "facellm": about}


def _token_row(token: Token) -> dict[str, Any]:
    own = _likely_row(token.text, token.logprob)
    return {**own, "top_logprobs": [_likely_row(one.text, one.logprob) for one in token.top]}


def _likely_row(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8"))}


def _usage(ended: Ended) -> dict[str, int]:
    both = ended.prompt_tokens + ended.completion_tokens
    return {
        "prompt_tokens": ended.prompt_tokens,
        "completion_tokens": ended.completion_tokens,
        "total_tokens": both,
    }
