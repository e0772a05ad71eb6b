"""What the teacher says is visible, as checked JSON: weak labels from which closed questions are made."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from facellm_training.data.labels import TASKS
from facellm_training.data.wording import ASK

#: Asked for. Left and right are not among them: models flip them in about one turned head of seven.
FACT_TASKS = (
    "glasses", "facial_hair", "smile", "mouth", "hair_color", "hair_length", "headwear", "expression", "background",
    "eyes", "brightness", "sharpness",
)  # fmt: skip
UNKNOWN = "cannot tell"

VisibleFacts: type[BaseModel] = create_model(
    "VisibleFacts",
    __config__=ConfigDict(extra="forbid"),
    # The description is a question: a small teacher's server puts it to the model as it stands.
    **{task: (Literal[(*TASKS[task], UNKNOWN)], Field(description=ASK[task][0])) for task in FACT_TASKS},  # type: ignore[call-overload]
)


def response_format() -> dict[str, Any]:
    """The request's ``response_format``, in the strict form."""
    schema = VisibleFacts.model_json_schema()
    return {"type": "json_schema", "json_schema": {"name": "visible_facts", "strict": True, "schema": schema}}


def parse_facts(text: str) -> dict[str, int] | str:
    """Task → class index of what is known, or why the text is no such object."""
    found = re.search(r"\{.*\}", text, re.DOTALL)
    if found is None:
        return "there is no JSON object in the answer"
    try:
        facts = VisibleFacts.model_validate(json.loads(found[0])).model_dump()
    except json.JSONDecodeError as error:
        return f"not valid JSON: {error}"
    except ValidationError as error:
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
    return {task: TASKS[task].index(value) for task, value in facts.items() if value != UNKNOWN}
