"""``facellm annotate``: pictures in, conversations out; killed anywhere, it goes on where it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from facellm.core.errors import FaceLLMError
from facellm_training.annotate import prompts
from facellm_training.annotate.asking import Request, first_requests, request_for
from facellm_training.annotate.batch import Batch
from facellm_training.annotate.counts import Run
from facellm_training.annotate.dataset import build, write
from facellm_training.annotate.facts import parse_facts
from facellm_training.annotate.journal import Journal
from facellm_training.annotate.live import Asking, Live, gentle_interrupt
from facellm_training.annotate.money import Estimate, Money, duration
from facellm_training.annotate.pictures import Gathered, gather
from facellm_training.annotate.recipe import AnnotateRecipe
from facellm_training.annotate.report import write_reports
from facellm_training.annotate.server import address, check, connect
from facellm_training.annotate.sources import read_source, state_of

JOURNAL = "journal.sqlite"


class ConsentNeeded(FaceLLMError):
    """Pictures would leave the process, and nobody has said yes to it."""


def annotate(
    recipe: AnnotateRecipe,
    say: Callable[[str], None],
    tell: Callable[[str], None],
    *,
    yes: bool = False,
    spoil_validation: bool = False,
) -> dict[str, Any]:
    """Run a recipe; the report's counts. ``say`` gets lines that stay, ``tell`` progress.

    Raises ``ConsentNeeded`` when something is to be asked and ``yes`` is false, ``KeyboardInterrupt`` after Ctrl-C,
    and the errors of source, server, budget and disk. Whatever it raises, answers so far are kept and exported.
    """
    rows = read_source(recipe.source, spoil_validation=spoil_validation)
    wanted = f"{asdict(recipe.source)} {state_of(recipe.source)}"
    gathered = gather(rows, recipe.out, recipe.source.limit, recipe.source.max_side, wanted)
    for reason, count in gathered.skipped.items():
        say(f"{_pictures(count)} skipped: {reason}.")
    requests = first_requests(recipe, gathered.pictures)
    with Journal(recipe.out / JOURNAL) as journal:
        pending = _pending(requests, journal) + _pending(_repairs(recipe, requests, journal), journal)
        parts = journal.open_parts() if recipe.mode == "batch" else []
        waiting = sum(state == "batched" for state in journal.states().values())
        if waiting:
            way = "they are fetched now" if parts else "run with --mode batch to fetch them"
            say(f"{waiting} requests wait in a batch: {way}.")
        if not pending and not parts:
            say("Nothing is left to ask; filtering and writing.")
            return _finish(recipe, gathered, requests, journal)
        _announce(recipe, Money(recipe).estimate(pending), journal.spent, say)
        going = len({request.picture.digest for request in pending})
        where = address(recipe.teacher.base_url).said()
        if not yes:
            raise ConsentNeeded(
                f"Nothing was sent. {_pictures(going)} would go to {where}.",
                "Add --yes to send them, once that is meant.",
            )
        try:
            asyncio.run(_ask(recipe, requests, journal, tell, lambda: say(f"Sending {_pictures(going)} to {where}.")))
        except BaseException:
            if "answered" in journal.states().values():
                _finish(recipe, gathered, requests, journal)
            raise
        return _finish(recipe, gathered, requests, journal)


def _pictures(count: int) -> str:
    return f"{count:,} picture{'' if count == 1 else 's'}"


def _pending(requests: list[Request], journal: Journal) -> list[Request]:
    states = journal.states()
    return [request for request in requests if states.get(request.id, "open") in ("open", "sent")]


def _repairs(recipe: AnnotateRecipe, requests: list[Request], journal: Journal) -> list[Request]:
    """One more request for each object that could not be read, however often this is called."""
    rows = journal.rows()
    found = []
    for request in requests:
        row = rows.get(request.id)
        if request.kind != "facts" or row is None or row.reply is None:
            continue
        problem = parse_facts(row.reply.text)
        if isinstance(problem, str) and row.reply.finish not in ("refusal", "content_filter"):
            prompt = f"{request.prompt}\n\n{prompts.repair_prompt(row.reply.text, problem)}"
            found.append(request_for("repair", request.picture, recipe.teacher, prompt))
    return found


async def _ask(
    recipe: AnnotateRecipe,
    requests: list[Request],
    journal: Journal,
    tell: Callable[[str], None],
    begin: Callable[[], None],
) -> None:
    """``begin`` is called when the server is there and takes the key."""
    async with connect(recipe.teacher, recipe.pace.timeout_s) as client:
        await check(client, recipe.teacher)
        begin()
        asking = Asking(recipe, client, journal, Money(recipe), recipe.out, tell)
        way = Batch if recipe.mode == "batch" else Live
        with gentle_interrupt(asking):
            await way(asking, _pending(requests, journal) if way is Live else requests).run()
            repairs = _repairs(recipe, requests, journal)
            if not asking.interrupted:
                await way(asking, _pending(repairs, journal) if way is Live else repairs).run()
        if asking.interrupted:
            raise KeyboardInterrupt


def _announce(recipe: AnnotateRecipe, estimate: Estimate, spent: float, say: Callable[[str], None]) -> None:
    prices = recipe.prices
    say(
        f"Still to ask: {estimate.requests:,} requests about {_pictures(estimate.pictures)}, about "
        f"{estimate.prompt_tokens:,} tokens in and {estimate.completion_tokens:,} out."
    )
    time = "within 24 hours a batch" if recipe.mode == "batch" else f"about {duration(estimate.seconds)}"
    say(
        f"Estimate: ${estimate.dollars:,.2f} (at most ${estimate.most:,.2f}), {time}. Spent so far: ${spent:,.2f}; "
        f"budget: ${prices.budget:,.2f}. Prices: {prices.source or 'the recipe names no source'}."
    )
    if spent + estimate.dollars > prices.budget:
        say("The budget will not suffice: the run stops when it is reached.")


def _finish(recipe: AnnotateRecipe, gathered: Gathered, requests: list[Request], journal: Journal) -> dict[str, Any]:
    """Filter, export and report what is there."""
    rows = journal.rows()
    repairs = _repairs(recipe, requests, journal)
    dataset = build(recipe, gathered.pictures, requests, repairs, rows)
    journal.judged(dataset.verdicts)
    write(dataset, recipe)
    plan = {request.id for request in (*requests, *repairs)}
    rejected = sum(row.state == "rejected" for key, row in rows.items() if key in plan)
    models = sorted({row.reply.model for row in rows.values() if row.reply and row.reply.model})
    return write_reports(Run(recipe, gathered, dataset, journal.totals(), len(plan), rejected, models))
