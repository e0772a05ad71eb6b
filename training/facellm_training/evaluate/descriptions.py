"""How much of what a description states is true: its clauses, one by one, against the labels.

The nano describes in the clauses that it was taught (``wording.SAY``), so each can be looked up; a clause that is
none of them counts as invented, whatever it says. An age counts as right within one bin: it is said as a range.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from facellm.core.ask import Question
from facellm.core.aspects import aspect
from facellm.core.faces import RgbImage
from facellm.engine.client import EngineClient
from facellm.engine.protocol import AskRequest, Done
from facellm_training.data.labels import TASKS, FaceLabels
from facellm_training.data.wording import SAY
from facellm_training.evaluate.metrics import mean_score

#: The longest description that was taught has 9 clauses, some 110 tokens.
MOST_TOKENS = 160

_MEANING: dict[str, list[tuple[str, int]]] = {}
for _task, _said in SAY.items():
    for _name, _clause in _said.items():
        _MEANING.setdefault(_clause, []).append((_task, TASKS[_task].index(_name)))


@dataclass(slots=True)
class Tally:
    """What was stated over all descriptions. ``right``: task → 1 or 0 for each stated fact whose label is known."""

    right: dict[str, list[float]] = field(default_factory=dict)
    invented: Counter[str] = field(default_factory=Counter)
    sentences: int = 0
    with_invented: int = 0
    texts: list[tuple[str, str]] = field(default_factory=list)

    def add(self, text: str, labels: FaceLabels) -> None:
        """Count one description."""
        self.texts.append((labels.file, text))
        for sentence in filter(None, re.split(r"(?<=[.!?])\s+", text.strip())):
            self.sentences += 1
            unknown = [clause for clause in clauses(sentence) if clause not in _MEANING]
            self.invented.update(unknown)
            self.with_invented += bool(unknown)
            for clause in clauses(sentence):
                self._judge(_MEANING.get(clause, []), labels)

    def _judge(self, meanings: list[tuple[str, int]], labels: FaceLabels) -> None:
        known = [(task, value) for task, value in meanings if task in labels.classes]
        if known:
            task = known[0][0]
            self.right.setdefault(task, []).append(float(any(_agrees(t, v, labels.classes[t]) for t, v in known)))

    def report(self) -> dict[str, Any]:
        """Share of stated facts that agree, in all and by task; share of sentences with something invented."""
        every = [value for values in self.right.values() for value in values]
        return {
            "descriptions": len(self.texts),
            "facts that agree": asdict(mean_score(np.array(every))),
            "by task": {task: {"agree": float(np.mean(v)), "n": len(v)} for task, v in sorted(self.right.items())},
            "sentences": self.sentences,
            "sentences with something invented": self.with_invented / max(1, self.sentences),
            "invented": self.invented.most_common(20),
        }


def clauses(sentence: str) -> list[str]:
    """The clauses of a sentence as ``wording.SAY`` has them: without the capital and the full stop."""
    text = sentence.strip().rstrip(".")
    text = text[:1].lower() + text[1:]
    # "and" also stands inside some clauses, so the longest known beginning is taken first.
    found = []
    while text:
        parts = text.split(" and ")
        for count in range(len(parts), 0, -1):
            head = " and ".join(parts[:count])
            if head in _MEANING or count == 1:
                found.append(head)
                text = " and ".join(parts[count:])
                break
    return found


def _agrees(task: str, said: int, truth: int) -> bool:
    return abs(said - truth) <= 1 if task == "age" else said == truth


def evaluate_descriptions(
    client: EngineClient, pictures: Iterator[tuple[str, RgbImage]], labels: dict[str, FaceLabels]
) -> Tally:
    """Ask for a description of each picture."""
    tally, question = Tally(), Question(aspect("detail").question)
    for file, pixels in pictures:
        for event in client.ask(AskRequest(images=(pixels,), question=question, max_tokens=MOST_TOKENS)):
            if isinstance(event, Done):
                tally.add(event.answer.text, labels[file])
    return tally
