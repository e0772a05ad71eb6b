"""A child that speaks the engine's language without a model: the client, its pipes and its child's death are real.

A question with "die" in it kills the child in mid-answer when the picture is dark, one with "fail" gives an error
then; any other answer is the question itself.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from facellm.engine.protocol import AskCommand

PATIENCE_S = 60


def child_command(loads: Path, *, fails_from: int = 0, waits_for: Path | None = None) -> list[str]:
    """The command line of a child that adds a line to ``loads`` when it is told to load.

    Loading fails from that load on (1: the first), or lasts until a file exists.
    """
    script = {"loads": str(loads), "fails_from": fails_from, "waits_for": str(waits_for) if waits_for else ""}
    return [sys.executable, "-P", __file__, json.dumps(script)]


def main(script: dict[str, Any]) -> None:
    """Serve until the pipe closes."""
    from facellm.engine import wire
    from facellm.engine.protocol import LoadCommand

    commands, replies = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            command: Any = wire.receive(commands)
        except EOFError:
            return
        if isinstance(command, LoadCommand):
            load(script, replies)
        else:
            answer(command, replies)


def load(script: dict[str, Any], replies: BinaryIO) -> None:
    """Reply with what was loaded, or why not."""
    from facellm.engine import wire
    from facellm.engine.errors import BadModel
    from facellm.engine.protocol import EngineInfo, Failed, Loading, Reply

    loads, until = Path(script["loads"]), time.monotonic() + PATIENCE_S
    with loads.open("a") as out:
        out.write("load\n")
    wire.send(replies, Reply(0, Loading("language model", 0.5)))
    while script["waits_for"] and not Path(script["waits_for"]).exists():
        if time.monotonic() > until:
            wire.send(replies, Reply(0, Failed(BadModel("Nothing was done meanwhile.", "Mend the order."))))
            return
        time.sleep(0.01)
    if script["fails_from"] and len(loads.read_text().splitlines()) >= script["fails_from"]:
        wire.send(replies, Reply(0, Failed(BadModel("The model is no good.", "Get another."))))
        return
    wire.send(replies, Reply(0, EngineInfo("scripted", "CPU, 1 thread", 2048, 1, "none", 1, 1, 0.1, os.getpid())))


def answer(command: AskCommand, replies: BinaryIO) -> None:
    """Stream the question back."""
    from facellm.core.ask import Answer, ChoiceProbability, Timings
    from facellm.engine import wire
    from facellm.engine.errors import QuestionTooLong
    from facellm.engine.protocol import Done, Encoded, Failed, Reply, Token

    number, question = command.number, command.request.question
    dark = command.request.images[0].mean() < 50
    wire.send(replies, Reply(number, Encoded(0.1, 49, False)))
    wire.send(replies, Reply(number, Token(question.text[:3], -0.1)))
    if dark and "die" in question.text:
        os._exit(3)
    if dark and "fail" in question.text:
        wire.send(replies, Reply(number, Failed(QuestionTooLong("It does not fit.", "Ask in fewer words."))))
        return
    choices = tuple(ChoiceProbability(text, 1 / len(question.choices)) for text in question.choices)
    wire.send(replies, Reply(number, Token(question.text[3:], -0.1)))
    wire.send(replies, Reply(number, Done(Answer(question.text, Timings(), choices=choices), "prompt")))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "desktop"))
    main(json.loads(sys.argv[1]))
