"""Live mode: several requests at once, at the agreed rate, each answer in the journal before the next step."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import openai
from openai import AsyncOpenAI

from facellm.core.errors import FaceLLMError
from facellm_training.annotate.asking import Request, body
from facellm_training.annotate.journal import Journal, reply_of
from facellm_training.annotate.money import Money, duration
from facellm_training.annotate.recipe import AnnotateRecipe
from facellm_training.annotate.server import ServerError, meaning, never_left, retry_after, said

#: So many requests in a row without any answer, and the server counts as gone.
_GIVE_UP = 5
#: Under this name a request's id stands in what a server stores.
STORED_AS = "facellm_request"


async def rest(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, or until ``stop``: a server may ask to wait for an hour, and Ctrl-C is not to wait with it."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


class Gate:
    """Lets requests through at most ``per_minute``, and none while the server asks for a pause."""

    def __init__(self, per_minute: float, stop: asyncio.Event) -> None:
        self._gap = 60.0 / per_minute
        self._stop = stop
        self._next = 0.0

    async def wait(self) -> None:
        """Until a request may leave, or until ``stop``."""
        while (left := self._next - time.monotonic()) > 0 and not self._stop.is_set():
            await rest(self._stop, left)
        self._next = time.monotonic() + self._gap

    def pause(self, seconds: float) -> None:
        self._next = max(self._next, time.monotonic() + seconds)


@dataclass
class Asking:
    """What both modes work with. ``tell`` gets one line of progress at a time."""

    recipe: AnnotateRecipe
    client: AsyncOpenAI
    journal: Journal
    money: Money
    out: Path
    tell: Callable[[str], None]
    #: Set by Ctrl-C: nothing new is asked, what is under way is waited for.
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    interrupted: bool = False
    #: Whether the server keeps answers under their request's id.
    keeps: bool = field(init=False)

    def __post_init__(self) -> None:
        self.keeps = self.recipe.teacher.store

    def schema(self) -> bool:
        return self.recipe.teacher.json_schema and self.journal.fact("schema") != "off"

    def without_schema(self, message: str) -> bool:
        """Whether a refused request is to be asked again without its schema."""
        unknown = any(word in message for word in ("response_format", "json_schema", "schema"))
        if unknown and self.schema():
            self.journal.fact("schema", "off")
            return True
        return unknown and self.recipe.teacher.json_schema


class Live:
    """Asks a list of requests once; ``unanswered`` were tried in vain and may be asked again."""

    def __init__(self, asking: Asking, requests: list[Request]) -> None:
        self._a = asking
        self._queue = deque(requests)
        self._total = len(requests)
        self._gate = Gate(asking.recipe.pace.per_minute, asking.stop)
        self._rng = Random()
        self._begun = time.monotonic()
        self._error: FaceLLMError | None = None
        self._in_a_row = 0
        self._any = False
        self.done = self.unanswered = 0

    async def run(self) -> None:
        """Raises what ended the run early, after everything under way has come to its end."""
        workers = [asyncio.create_task(self._work()) for _ in range(self._a.recipe.pace.concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
        if self._error is not None:
            raise self._error

    async def _work(self) -> None:
        while self._queue and not self._a.stop.is_set() and self._error is None:
            await self._ask(self._queue.popleft())
            self._progress()

    async def _ask(self, request: Request) -> None:
        journal, pace = self._a.journal, self._a.recipe.pace
        if journal.state(request.id) == "sent":  # a run was killed after it left
            if await self._stored(request):
                return
            journal.back(request.id, "cut off", lost=True)
        for number in range(pace.tries):
            await self._gate.wait()
            if self._a.stop.is_set() or self._error is not None:
                return
            if not self._a.money.affordable(journal.spent, request):
                self._end(self._a.money.reached(journal.spent, len(self._queue) + 1))
                return
            wait = await self._try(request)
            if wait is None:
                return
            if wait < 0:
                await rest(self._a.stop, self._patience(number))
        self.unanswered += 1
        self._in_a_row += 1
        if self._in_a_row >= _GIVE_UP:
            self._end(
                ServerError(
                    "The server does not answer any more: " + journal.rows()[request.id].problem,
                    "Run the command again later; it goes on where it was.",
                )
            )

    def _patience(self, number: int) -> float:
        """Seconds before try ``number + 1``: doubled each time, with jitter so that tries do not come together."""
        pace = self._a.recipe.pace
        return min(pace.longest_wait_s, pace.backoff_s * 2**number) * (0.5 + self._rng.random())

    async def _try(self, request: Request) -> float | None:
        """``None``: settled; below 0: try again after the usual wait; 0: at once, the gate knows how long to wait."""
        journal = self._a.journal
        journal.sent(request.id, self._a.money.most(request))
        try:
            self._take(request, await self._answer(request))
        except openai.RateLimitError as error:
            return self._throttled(request, error)
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            journal.back(request.id, said(error))
            self._end(meaning(error, self._a.recipe.teacher))
            return None
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            return self._refused(request, said(error))
        except openai.APIStatusError as error:
            journal.back(request.id, said(error))
            return self._pause(retry_after(error))
        except openai.APIConnectionError as error:
            return await self._cut_off(request, said(error), lost=not never_left(error))
        except (openai.APIError, ValueError) as error:  # ValueError: what came is no JSON, or no completion
            return await self._cut_off(request, f"broken answer: {said(error)}", lost=True)
        return None

    async def _answer(self, request: Request) -> dict[str, Any]:
        arguments = body(request, self._a.recipe.teacher, self._a.out, schema=self._a.schema())
        if self._a.keeps:
            arguments |= {"store": True, "metadata": {STORED_AS: request.id}}
        raw = await self._a.client.chat.completions.with_raw_response.create(**arguments)
        answer = json.loads(raw.text)
        if not isinstance(answer, dict):
            raise ValueError("the answer is no JSON object")
        return answer

    def _take(self, request: Request, completion: dict[str, Any]) -> None:
        reply = reply_of(completion)
        self._a.journal.answered(request.id, reply, self._a.money.cost(reply))
        self.done += 1
        self._in_a_row, self._any = 0, True

    def _throttled(self, request: Request, error: openai.RateLimitError) -> float | None:
        self._a.journal.back(request.id, said(error))
        if error.code == "insufficient_quota":  # waiting does not help
            self._end(ServerError(f"The account has no credit left: {said(error)}", "Run the command again later."))
            return None
        return self._pause(retry_after(error))

    def _pause(self, seconds: float | None) -> float:
        if seconds is None:
            return -1.0
        # Spread, so that not all come back in the same moment.
        self._gate.pause(seconds + 0.1 * self._a.recipe.pace.backoff_s * self._rng.random())
        return 0.0

    def _refused(self, request: Request, message: str) -> float | None:
        if request.kind in ("facts", "repair") and self._a.without_schema(message):
            self._a.journal.back(request.id, message)
            return 0.0
        # This server keeps nothing; others of these requests may be under way, hence not "if self._a.keeps".
        if self._a.recipe.teacher.store and re.search(r"\b(store|metadata)\b", message):
            self._a.keeps = False
            self._a.journal.back(request.id, message)
            return 0.0
        self._in_a_row += 1
        if not self._any and self._in_a_row >= _GIVE_UP:  # not these pictures: the request as such
            self._a.journal.back(request.id, message)
            self._end(ServerError(f"The server refuses every request: {message}", "Check the recipe's teacher."))
            return None
        self._a.journal.rejected(request.id, message)
        return None

    async def _cut_off(self, request: Request, message: str, *, lost: bool) -> float | None:
        if lost and await self._stored(request):
            return None
        self._a.journal.back(request.id, message, lost=lost)
        return -1.0

    async def _stored(self, request: Request) -> bool:
        """Fetch the answer if the server has kept it: what was paid for is not asked for again."""
        until = time.monotonic() + self._a.recipe.pace.settle_s
        while self._a.keeps:
            try:
                page = await self._a.client.chat.completions.list(metadata={STORED_AS: request.id}, limit=1)
                if page.data:
                    self._take(request, page.data[0].model_dump())
                    return True
            except (openai.NotFoundError, openai.BadRequestError, openai.APIResponseValidationError):
                return False  # this server stores nothing
            except (openai.APIError, ValueError, AttributeError):
                pass
            if time.monotonic() > until:
                return False
            await asyncio.sleep(min(1.0, self._a.recipe.pace.settle_s / 4))
        return False

    def _end(self, error: FaceLLMError) -> None:
        self._error = self._error or error

    def _progress(self) -> None:
        passed = time.monotonic() - self._begun
        settled = self._total - len(self._queue)
        left = duration(passed / settled * len(self._queue)) if settled else "?"
        spent = f"${self._a.journal.spent:,.2f} spent"
        self._a.tell(f"{settled} of {self._total} requests, {60 * settled / passed:.0f} a minute, {left} left, {spent}")


@contextmanager
def gentle_interrupt(asking: Asking) -> Iterator[None]:
    """The first Ctrl-C stops asking and waits for what is under way, since it is paid for; the second ends at once."""
    loop = asyncio.get_running_loop()

    def interrupted(*_: object) -> None:
        if asking.interrupted:
            raise KeyboardInterrupt
        asking.interrupted = True
        loop.call_soon_threadsafe(asking.stop.set)
        loop.call_soon_threadsafe(asking.tell, "Stopping: waiting for the answers under way (Ctrl-C again: at once).")

    try:
        before = signal.signal(signal.SIGINT, interrupted)
    except ValueError:  # not in the main thread: nobody's Ctrl-C comes here
        yield
        return
    try:
        yield
    finally:
        with suppress(TypeError):
            signal.signal(signal.SIGINT, before)
