"""Batch mode: parts under the service's limits, submitted once, fetched when they are done, at a share of the price.

A part is in the journal before it is uploaded, and its batch carries the run's and the part's number: after a kill
between the two the batch is found at the service again, and nothing is submitted twice.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Literal, TypeVar

import openai

from facellm.core.errors import FaceLLMError
from facellm_training.annotate.asking import Request, body
from facellm_training.annotate.files import write_whole
from facellm_training.annotate.journal import reply_of
from facellm_training.annotate.live import Asking, rest
from facellm_training.annotate.server import ServerError, meaning, retry_after, said

Result = TypeVar("Result")

_ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
#: OpenAI's word for a batch that would have more tokens waiting than the account may have; none of it is done.
_QUEUE_FULL = "token_limit_exceeded"
_ENDED = {"completed", "failed", "expired", "cancelled"}


class BatchFailed(FaceLLMError):
    """The service took none of a part's lines."""


class Batch:
    """Asks a list of requests in rounds: what a round leaves unanswered is submitted in the next one."""

    def __init__(self, asking: Asking, requests: list[Request]) -> None:
        self._a = asking
        self._by_id = {request.id: request for request in requests}
        self._settings = asking.recipe.batches
        self._full = ""  # what the service says of its queue in this round

    async def run(self) -> None:
        """Raises ``BudgetReached`` when a request does not fit any more, ``BatchFailed`` and ``ServerError``."""
        await self._collect()
        for request in self._by_id.values():
            if self._a.journal.state(request.id) == "sent":  # a live run was killed
                self._a.journal.back(request.id, "cut off", lost=True)
        rounds = 0
        while rounds < self._settings.rounds:
            pending = self._pending()
            if not pending or self._a.stop.is_set():
                return
            self._full = ""
            left = await self._submit(pending)
            await self._collect()
            if left:
                raise self._a.money.reached(self._a.journal.spent, left)
            if self._full and len(self._pending()) < len(pending):
                continue  # a round only waits for its turn in the service's queue
            rounds += 1
            if self._full:
                self._a.tell(f"The service's queue is full: {self._full}")
                await rest(self._a.stop, self._settings.poll_s)
        if self._full and not self._a.stop.is_set():
            raise BatchFailed(
                f"The service's queue is full, and not of these batches: {self._full}",
                "Nothing was paid. Run the command again later, or make smaller parts (batches.part_requests).",
            )

    def _pending(self) -> list[Request]:
        return [request for request in self._by_id.values() if self._a.journal.state(request.id) == "open"]

    async def _submit(self, pending: list[Request]) -> int:
        """How many did not fit into the budget."""
        sent = 0
        for requests in self._parts(pending):
            most = [(request.id, self._a.money.most(request)) for request in requests]
            part = self._a.journal.new_part(most)
            await self._hand_in(part)
            sent += len(requests)
            if self._a.stop.is_set():
                return 0
        return len(pending) - sent

    def _parts(self, pending: list[Request]) -> Iterator[list[Request]]:
        """Requests cut to the limits of a file, as far as the budget reaches."""
        part: list[Request] = []
        size, promised = 0, 0.0
        for request in pending:
            if not self._a.money.affordable(self._a.journal.spent + promised, request):
                break
            length = len(self._line(request))
            if part and (
                len(part) >= self._settings.part_requests or size + length > self._settings.part_mb * 1_000_000
            ):
                yield part
                part, size, promised = [], 0, 0.0  # what was promised is in the journal now
            part.append(request)
            size, promised = size + length, promised + self._a.money.most(request)
        if part:
            yield part

    def _line(self, request: Request) -> bytes:
        arguments = body(request, self._a.recipe.teacher, self._a.out, schema=self._a.schema())
        row = {"custom_id": request.id, "method": "POST", "url": _ENDPOINT, "body": arguments}
        return json.dumps(row).encode() + b"\n"

    async def _hand_in(self, part: int) -> None:
        """Upload and create, unless the service has this part's batch already."""
        mark = {"facellm_run": self._a.journal.fact("run"), "facellm_part": str(part)}
        batch_id = await self._find(mark)
        if not batch_id:
            path = self._a.out / "batches" / f"part-{part:03}.jsonl"
            waiting = self._a.journal.in_part(part)
            requests = [self._by_id[key] for key in waiting if key in self._by_id]
            if not requests:  # of a stage that is not there yet: it asks for them again
                for key in waiting:
                    self._a.journal.back(key, "its part was never handed in")
                self._a.journal.part_changed(part, state="failed", problem="never handed in")
                return
            self._a.tell(f"Uploading part {part}: {len(requests)} requests")
            write_whole(path, b"".join(map(self._line, requests)))
            uploaded = await self._patiently(lambda: self._a.client.files.create(file=path, purpose="batch"))
            self._a.journal.part_changed(part, file_id=uploaded.id)
            path.unlink(missing_ok=True)
            batch_id = await self._create(uploaded.id, mark)
        self._a.journal.part_changed(part, batch_id=batch_id, state="submitted")

    async def _create(self, file_id: str, mark: dict[str, str]) -> str:
        async def once() -> str:
            # After a broken connection it may be there all the same.
            found = await self._find(mark)
            if found:
                return found
            made = await self._a.client.batches.create(
                input_file_id=file_id, endpoint=_ENDPOINT, completion_window="24h", metadata=mark
            )
            return made.id

        return await self._patiently(once)

    async def _find(self, mark: dict[str, str]) -> str:
        async def once() -> str:
            async for batch in self._a.client.batches.list(limit=100):
                if batch.metadata == mark:
                    return batch.id
            return ""

        return await self._patiently(once)

    async def _collect(self) -> None:
        """Wait for every open part and take what it brings."""
        while parts := self._a.journal.open_parts():
            waiting = []
            for part, _, batch_id in parts:
                if not batch_id:  # killed before it was handed in, or before that was written down
                    await self._hand_in(part)
                    waiting.append(f"part {part} handed in")
                    continue
                batch = await self._patiently(lambda key=batch_id: self._a.client.batches.retrieve(key))  # type: ignore[misc]
                if batch.status in _ENDED:
                    await self._take(part, batch)
                else:
                    counts = batch.request_counts
                    done = f" {counts.completed} of {counts.total}" if counts else ""
                    waiting.append(f"part {part} {batch.status}{done}")
            if self._a.stop.is_set():
                return
            if waiting:
                self._a.tell(f"Batch: {', '.join(waiting)}; ${self._a.journal.spent:,.2f} spent or promised")
                await rest(self._a.stop, self._settings.poll_s)

    async def _take(self, part: int, batch: Any) -> None:
        """All lines of one part in one transaction; what has no usable line is open again."""
        texts = [
            await self._patiently(lambda key=file: self._a.client.files.content(key))  # type: ignore[misc]
            for file in (batch.output_file_id, batch.error_file_id)
            if file
        ]
        errors = (batch.errors.data if batch.errors else None) or []
        problems = "; ".join(item.message or "" for item in errors)
        journal = self._a.journal
        with journal.together():
            waiting = set(journal.in_part(part))
            for text in texts:
                for line in text.text.splitlines():
                    self._line_back(line, waiting)
            for key in waiting:
                journal.back(key, f"batch {batch.status}, no answer")
            journal.part_changed(part, state="done" if texts else "failed", problem=problems)
        if any(item.code == _QUEUE_FULL for item in errors):
            self._full = problems or _QUEUE_FULL
        elif batch.status == "failed" and not texts:
            raise BatchFailed(
                f"The service did not take part {part}: {problems or 'it gives no reason'}.",
                "Smaller parts may help (batches.part_requests); nothing of it was paid. Run the command again.",
            )

    def _line_back(self, line: str, waiting: set[str]) -> None:
        try:
            row = json.loads(line)
            key = row["custom_id"]
        except (ValueError, KeyError, TypeError):
            return  # a broken line: its request stays in ``waiting``
        if key not in waiting:
            return
        response = row.get("response") or {}
        status = response.get("status_code", 0)
        try:
            if status != 200:
                raise ValueError(str((response.get("body") or {}).get("error") or row.get("error") or "failed line"))
            reply = reply_of(response["body"])
        except (ValueError, KeyError, AttributeError) as error:
            refused = status in (400, 422) and not self._a.without_schema(str(error))
            (self._a.journal.rejected if refused else self._a.journal.back)(key, str(error))
        else:
            self._a.journal.answered(key, reply, self._a.money.cost(reply))
        waiting.discard(key)

    async def _patiently(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Calls that cost nothing, repeated while the server is busy or away."""
        pace = self._a.recipe.pace
        for number in range(pace.tries):
            wait = min(pace.longest_wait_s, pace.backoff_s * 2**number)
            try:
                return await call()
            except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
                raise meaning(error, self._a.recipe.teacher) from error
            except openai.APIStatusError as error:
                if error.status_code < 500 and error.status_code not in (408, 409, 429):
                    raise ServerError(f"The server refuses: {said(error)}") from error
                wait = retry_after(error) or wait
                last: Exception = error
            except (openai.APIError, ValueError) as error:
                last = error
            await rest(self._a.stop, wait)
        raise ServerError(
            f"The server does not answer: {said(last)}", "Run the command again later; it goes on where it was."
        ) from last
