"""From answers to conversations: filters applied in the plan's order, so that the result never depends on timing."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facellm_training.annotate.asking import Request
from facellm_training.annotate.closed import closed_conversations, comparison, conversation, with_facts
from facellm_training.annotate.duplicates import NearDuplicates
from facellm_training.annotate.facts import parse_facts
from facellm_training.annotate.files import write_whole
from facellm_training.annotate.filters import facts_verdict, verdict
from facellm_training.annotate.journal import Row
from facellm_training.annotate.pictures import Picture
from facellm_training.annotate.prompts import question_on
from facellm_training.annotate.recipe import AnnotateRecipe
from facellm_training.data.labels import FaceLabels


@dataclass
class Dataset:
    """``verdicts``: request's id → why its answer was dropped, "" where it was kept."""

    conversations: list[dict[str, Any]] = field(default_factory=list)
    verdicts: dict[str, str] = field(default_factory=dict)

    def drops(self) -> Counter[str]:
        return Counter(reason for reason in self.verdicts.values() if reason)


def build(
    recipe: AnnotateRecipe, pictures: list[Picture], requests: list[Request], repairs: list[Request],
    rows: dict[str, Row],
) -> Dataset:  # fmt: skip
    """All conversations that the answers so far allow."""
    found = Dataset()
    facts: dict[str, dict[str, int]] = {}
    open_rows: dict[str, list[dict[str, Any]]] = {}
    for key in recipe.questions.aspects:  # one after the other: each has an index of its own, which needs memory
        seen = NearDuplicates(recipe.filters.similar, allowed_repeats(recipe, len(pictures)))
        for request in requests:
            row = rows.get(request.id)
            if request.kind != key or row is None or row.reply is None:
                continue
            text = " ".join(row.reply.text.split())
            reason = verdict(row.reply, request.picture.age, request.picture.gender, recipe.filters.least_words)
            if not reason and seen.seen(text):
                reason = "near duplicate"
            found.verdicts[request.id] = reason
            if not reason:
                open_rows.setdefault(request.picture.digest, []).append(_open(recipe, request, text))
    # A repaired object counts under its own request; the broken one stays in the journal as not readable.
    for request in [*requests, *repairs]:
        row = rows.get(request.id)
        if request.kind in ("facts", "repair") and row is not None and row.reply is not None:
            found.verdicts[request.id] = _facts(request, row, facts)
    _assemble(recipe, pictures, open_rows, facts, found)
    return found


def allowed_repeats(recipe: AnnotateRecipe, pictures: int) -> int:
    """How many answers to one aspect may be nearly the same. It grows with the data: many faces are alike in a thing,
    and a fixed number would drop most of a large run."""
    return max(1, round(recipe.filters.repeats * pictures))


def _facts(request: Request, row: Row, facts: dict[str, dict[str, int]]) -> str:
    assert row.reply is not None
    parsed = parse_facts(row.reply.text)
    if isinstance(parsed, str):
        return "refusal" if row.reply.finish in ("refusal", "content_filter") else "not readable as JSON"
    reason = facts_verdict(parsed, request.picture.age)
    if not reason:
        facts[request.picture.digest] = parsed
    return reason


def _open(recipe: AnnotateRecipe, request: Request, text: str) -> dict[str, Any]:
    question = question_on(request.kind, request.picture.digest, recipe.questions.seed)
    key = f"{request.kind}-{request.picture.digest[:16]}"
    return conversation(key, [request.picture], question, text, request.kind, "open")


def _assemble(
    recipe: AnnotateRecipe, pictures: list[Picture], open_rows: dict[str, list[dict[str, Any]]],
    facts: dict[str, dict[str, int]], found: Dataset,
) -> None:  # fmt: skip
    before: tuple[Picture, FaceLabels] | None = None
    for picture in pictures:
        labels = with_facts(picture, facts.get(picture.digest, {}))
        found.conversations += open_rows.get(picture.digest, [])
        found.conversations += closed_conversations(picture, labels, recipe.questions)
        row = comparison([before, (picture, labels)], recipe.questions) if before else None
        found.conversations += [row] if row else []
        before = (picture, labels)


def write(dataset: Dataset, recipe: AnnotateRecipe) -> None:
    """``conversations.jsonl``, ``.parquet`` and ``dataset_info.json`` (LLaMA-Factory's description)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    out, rows = recipe.out, dataset.conversations
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_whole(out / "conversations.jsonl", lines.encode())
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=_schema()), sink)
    write_whole(out / "conversations.parquet", sink.getvalue().to_pybytes())
    write_whole(out / "dataset_info.json", json.dumps(dataset_info(recipe.name), indent=2).encode())


def _schema() -> Any:
    import pyarrow as pa

    text, texts = pa.string(), pa.list_(pa.string())
    messages = pa.list_(pa.struct([("role", text), ("content", text)]))
    columns = {"id": text, "images": texts, "messages": messages, "aspect": text, "format": text, "choices": texts}
    return pa.schema([*columns.items(), ("answer", text)])


def dataset_info(name: str) -> dict[str, Any]:
    """What LLaMA-Factory must know; its column for pictures is ``images``, and ``image`` would train without any."""
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    columns = {"messages": "messages", "images": "images"}
    return {
        name: {"file_name": "conversations.jsonl", "formatting": "sharegpt", "columns": columns, "tags": tags},
    }


def read_conversations(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``conversations.jsonl``."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
