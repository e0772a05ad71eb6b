"""The request that the engine's client is serving: how long to wait for it, what it has given, when it is over."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from facellm.core.ask import Answer, Timings
from facellm.engine.process import Child
from facellm.engine.protocol import Chosen, Done, Failed, Reply

#: A stopped answer is over for the caller after this long, even if the child is deep in one long operation.
STOP_S = 0.25
#: A child that has not come back this long after a stop is replaced when the next question comes.
LOST_S = 5.0


@dataclass(slots=True)
class Running:
    """The request that is being served, and the text it has given so far."""

    number: int
    stopped_at: float = 0.0
    texts: list[str] = field(default_factory=list)


def patience(running: Running, *, loading: bool) -> float | None:
    """Seconds to wait for the child: for ever, unless a stop was asked for."""
    if not running.stopped_at:
        return None
    return 0.0 if loading else max(0.0, running.stopped_at + STOP_S - time.monotonic())


def is_over(child: Child, late: Running, running: Running) -> bool:
    """Whether the stopped request ``late`` has ended in the child, or the child has; looks for a moment at most."""
    try:
        reply = child.receive(0.0 if running.stopped_at else STOP_S)
    except TimeoutError:
        return False
    ends = Done | Failed | Chosen
    return reply is None or (isinstance(reply, Reply) and reply.number == late.number and isinstance(reply.event, ends))


def stopped(running: Running) -> Done:
    """The end of an answer that the caller stopped: what it has given so far."""
    return Done(Answer("".join(running.texts).strip(), Timings(), "stopped"), "")
