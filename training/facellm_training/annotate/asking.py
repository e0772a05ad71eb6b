"""The requests of a run: which there are, their stable ids, and their bodies."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facellm_training.annotate import prompts
from facellm_training.annotate.facts import response_format
from facellm_training.annotate.pictures import Picture
from facellm_training.annotate.recipe import AnnotateRecipe, Teacher


@dataclass(frozen=True, slots=True)
class Request:
    """One question to the teacher, ``system`` before it. ``kind``: an aspect's key, "facts" or "repair".

    ``id`` depends on the model, the texts and the picture's bytes alone: the same question has the same id in every
    run, and a changed prompt or picture is another question.
    """

    id: str
    kind: str
    picture: Picture
    prompt: str
    system: str

    def text_length(self) -> int:
        """Characters of what is sent beside the picture."""
        return len(self.system) + len(self.prompt)


def request_for(kind: str, picture: Picture, teacher: Teacher, prompt: str) -> Request:
    """A request with its id."""
    system = prompts.SYSTEM if teacher.prompting == "labels" else ""
    parts = (teacher.model, teacher.temperature, teacher.max_tokens, teacher.detail, system, prompt)
    text = json.dumps([*parts, picture.digest])
    return Request(f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:32]}", kind, picture, prompt, system)


def first_requests(recipe: AnnotateRecipe, pictures: list[Picture]) -> list[Request]:
    """All that is asked without having seen an answer, picture by picture."""
    found = []
    told = recipe.teacher.prompting == "labels"
    for picture in pictures:
        for key in recipe.questions.aspects:
            question = prompts.question_on(key, picture.digest, recipe.questions.seed)
            prompt = prompts.open_prompt(key, picture.age, picture.gender, question) if told else question
            found.append(request_for(key, picture, recipe.teacher, prompt))
        if recipe.questions.facts:
            prompt = prompts.facts_prompt(prompts.known_labels(picture.age, picture.gender) if told else "")
            found.append(request_for("facts", picture, recipe.teacher, prompt))
    return found


def body(request: Request, teacher: Teacher, out: Path, *, schema: bool) -> dict[str, Any]:
    """Arguments of ``chat.completions.create``, which are a batch line's body as well."""
    encoded = (out / request.picture.path).read_bytes()
    mime = "image/png" if request.picture.path.endswith(".png") else "image/jpeg"
    image: dict[str, str] = {"url": f"data:{mime};base64,{base64.b64encode(encoded).decode()}"}
    if teacher.detail != "auto":
        image["detail"] = teacher.detail
    content = [{"type": "image_url", "image_url": image}, {"type": "text", "text": request.prompt}]
    system = [{"role": "system", "content": request.system}] if request.system else []
    arguments: dict[str, Any] = {
        "model": teacher.model,
        "messages": [*system, {"role": "user", "content": content}],
        "max_tokens": teacher.max_tokens,
        "temperature": teacher.temperature,
    }
    if schema and request.kind in ("facts", "repair"):
        arguments["response_format"] = response_format()
    return arguments
