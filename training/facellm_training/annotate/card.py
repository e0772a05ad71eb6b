"""The data set's card: what it is, how it was made, what was dropped, and a few pictures."""

from __future__ import annotations

from typing import Any

from facellm_training.annotate import prompts
from facellm_training.annotate.counts import Run, main_counts, table
from facellm_training.annotate.recipe import AnnotateRecipe

#: Pictures on the card.
_SHOWN = 6
#: What the teacher knew, by ``teacher.prompting``.
_TOLD = {
    "labels": "which was told the known age bin and gender and asked to describe what is visible",
    "question": "which was asked the stored question and told nothing; the labels only filtered its answers",
}


def card(run: Run, counts: dict[str, Any]) -> str:
    """The data set's README: what it is, how it was made, what was dropped, and a few pictures."""
    recipe, source = run.recipe, run.recipe.source
    where = source.path if source.kind == "hub" else "FairFace" if source.kind == "parquet" else "a labelled folder"
    spoiled = (
        "\n**These pictures are of FairFace's validation split. Models trained on them must not be measured on it.**\n"
        if source.kind != "folder" and source.split == "validation"
        else ""
    )
    split = f", {source.split} split" if source.kind != "folder" else ""
    return f"""---
license: {"cc-by-4.0" if source.licence == "CC BY 4.0" else "other"}
task_categories: [visual-question-answering]
language: [en]
---
# {recipe.name}

{counts["conversations"]:,} conversations about {counts["pictures"]:,} pictures of faces, made on {counts["date"]} with
`facellm annotate`. Pictures: {where}{split}, {source.licence or "licence not stated"}.
{spoiled}
Open answers were written by {", ".join(run.models) or recipe.teacher.model}, {_TOLD[recipe.teacher.prompting]}.
The labels are in no stored question. Right answers of closed questions come from the labels and, for what labels do not
cover, from a JSON object of visible facts that the same model filled in and that was checked: weak labels. Ethnicity is
in no prompt and no text. Ages and genders are as perceived by labellers.

Each line of `conversations.jsonl` (the same rows: `conversations.parquet`): `id`, `images` (paths in this folder),
`messages` (one `<image>` a picture in the first), `aspect`, `format`, `choices`, `answer` (the right letter or word).
`dataset_info.json` describes it for LLaMA-Factory.

{_pictures(run)}
## Counts

{_tables(counts)}
## Prompts

{_prompts(recipe)}"""


def _tables(counts: dict[str, Any]) -> str:
    return "\n".join(
        [
            *table("What", "Number", main_counts(counts)),
            *table("Form", "Conversations", counts["by_format"]),
            *table("Aspect", "Conversations", counts["by_aspect"]),
            *table("Dropped because", "Answers", counts["dropped"]),
        ]
    )


def _prompts(recipe: AnnotateRecipe) -> str:
    if recipe.teacher.prompting == "question":
        return "The stored questions, without a system prompt.\n"
    facts = prompts.facts_prompt(prompts.known_labels(3, 0)).replace("\n", "\n> ")
    return (
        f"System prompt:\n\n> {prompts.SYSTEM}\n\nFor the expression of a child:\n\n"
        f"> {prompts.open_prompt('expression', 1, 1, 'What expression is visible?')}\n\n"
        f"For visible facts:\n\n> {facts}\n"
    )


def _pictures(run: Run) -> str:
    source = run.recipe.source
    if not source.publish or not source.licence:
        return "Pictures are not shown here: their licence does not allow it, or is not known.\n"
    shown: list[str] = []
    for picture in run.gathered.pictures:
        rows = [r for r in run.dataset.conversations if r["images"] == [picture.path] and r["format"] == "open"]
        if rows and len(shown) < _SHOWN:
            row = rows[len(shown) % len(rows)]  # another aspect with each picture
            text = row["messages"][1]["content"].replace("|", "/")
            shown.append(f"| ![]({picture.path}) | {row['aspect']} | {text} |")
    return "\n".join(["| picture | aspect | answer |", "|---|---|---|", *shown, f"\nPictures: {source.licence}.\n"])
