"""How much the child works: in CPU time, which a busy machine does not change much.

An answer of a small model is over within a second or two, stopped or not, so that an idle child alone proves nothing.
"""

from __future__ import annotations

from dataclasses import replace

import psutil

from facellm.engine.client import EngineClient
from tests.engine.asking import essay


def effort(client: EngineClient) -> float:
    """CPU seconds that the child has used since it was started."""
    assert client.pid is not None
    user, system = psutil.Process(client.pid).cpu_times()[:2]
    return float(user + system)


def effort_of_an_essay(client: EngineClient) -> float:
    """CPU seconds from an essay's first token to its end, or to its 40th token where that comes first."""
    answer = client.ask(replace(essay(), max_tokens=40))
    next(answer)
    begun = effort(client)
    list(answer)
    return effort(client) - begun
