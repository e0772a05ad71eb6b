"""The run's report, as Markdown and as one self-contained page, and the data set's card."""

from __future__ import annotations

import base64
import html
import io
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from facellm_training.annotate import prompts
from facellm_training.annotate.dataset import Dataset
from facellm_training.annotate.files import write_whole
from facellm_training.annotate.filters import REASONS
from facellm_training.annotate.journal import stamp
from facellm_training.annotate.pictures import Gathered, Picture
from facellm_training.annotate.recipe import AnnotateRecipe
from facellm_training.annotate.server import address
from facellm_training.data.fairface import AGES, GENDERS

#: Pictures on the card, and with all their conversations in the report.
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Run:
    """What a report tells of. ``totals``: the journal's; ``asked``: requests of the plan."""

    recipe: AnnotateRecipe
    gathered: Gathered
    dataset: Dataset
    totals: dict[str, Any]
    asked: int
    models: list[str]

    def counts(self) -> dict[str, Any]:
        """Everything that was counted, as JSON."""
        rows = self.dataset.conversations
        states = self.totals["states"]
        return {
            "date": stamp(),
            "pictures": len(self.gathered.pictures),
            "pictures_skipped": self.gathered.skipped,
            "requests": self.asked,
            "answered": len(self.dataset.verdicts),
            "unanswered": self.asked - len(self.dataset.verdicts) - states.get("rejected", 0),
            "rejected_by_the_server": states.get("rejected", 0),
            "kept": sum(not reason for reason in self.dataset.verdicts.values()),
            "dropped": {reason: n for reason in REASONS if (n := self.dataset.drops()[reason])},
            "conversations": len(rows),
            "by_format": dict(Counter(row["format"] for row in rows)),
            "by_aspect": dict(Counter(row["aspect"] for row in rows)),
            "prompt_tokens": int(self.totals["prompt_tokens"]),
            "completion_tokens": int(self.totals["completion_tokens"]),
            "dollars": round(self.totals["cost"], 4),
            "dollars_perhaps_paid_without_an_answer": round(self.totals["lost"], 4),
            "requests_perhaps_paid_twice": self.totals["perhaps_paid_twice"],
            "models": self.models,
        }


def write_reports(run: Run) -> dict[str, Any]:
    """``report.json``, ``.md``, ``.html`` and ``README.md`` in the run's folder; the counts."""
    counts, out = run.counts(), run.recipe.out
    chart = draw(run)
    write_whole(out / "report.json", json.dumps(counts, indent=1).encode())
    write_whole(out / "report.png", chart)
    write_whole(out / "report.md", (markdown(run, counts) + "\n![Counts](report.png)\n").encode())
    write_whole(out / "report.html", page(run, counts, chart).encode())
    write_whole(out / "README.md", card(run, counts).encode())
    return counts


def markdown(run: Run, counts: dict[str, Any]) -> str:
    """Counts as tables."""
    teacher = run.recipe.teacher
    who = f"Teacher {', '.join(run.models) or teacher.model} at {address(teacher.base_url).name}"
    lines = [
        f"# {run.recipe.name}: annotation report\n",
        f"{counts['date']}. {who}, {run.recipe.mode} mode.\n",
        *_table("What", "Number", _main(counts)),
        *_table("Dropped because", "Answers", counts["dropped"]),
        *_table("Form", "Conversations", counts["by_format"]),
        *_table("Aspect", "Conversations", counts["by_aspect"]),
    ]
    if counts["pictures_skipped"]:
        lines += _table("Picture skipped because", "Pictures", counts["pictures_skipped"])
    return "\n".join(lines)


def _main(counts: dict[str, Any]) -> dict[str, Any]:
    perhaps = counts["requests_perhaps_paid_twice"]
    return {
        "pictures": counts["pictures"],
        "requests": counts["requests"],
        "answered": counts["answered"],
        "unanswered (run again)": counts["unanswered"],
        "rejected by the server": counts["rejected_by_the_server"],
        "answers kept": counts["kept"],
        "answers dropped": counts["answered"] - counts["kept"],
        "conversations": counts["conversations"],
        "tokens in / out": f"{counts['prompt_tokens']:,} / {counts['completion_tokens']:,}",
        "dollars": f"{counts['dollars']:,.2f}",
        "requests perhaps paid twice": f"{perhaps} (${counts['dollars_perhaps_paid_without_an_answer']:,.2f} at most)",
    }


def _table(left: str, right: str, rows: dict[str, Any]) -> list[str]:
    return [f"| {left} | {right} |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items()), ""]


def draw(run: Run) -> bytes:
    """PNG: answers kept by aspect, drops by reason, conversations by form."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    counts = run.counts()
    answers = Counter(key.rsplit("-", 1)[0] for key in run.dataset.verdicts)
    kept = Counter(key.rsplit("-", 1)[0] for key, reason in run.dataset.verdicts.items() if not reason)
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    names = list(answers)
    axes[0].barh(names, [answers[name] for name in names], color="#d6dfee", label="answered")
    axes[0].barh(names, [kept[name] for name in names], color="#1d4ed8", label="kept")
    axes[0].set_title("Answers by what was asked")
    if names:
        figure.legend(loc="outside lower left", ncols=2, frameon=False)
    for axis, title, rows in (
        (axes[1], "Dropped because", counts["dropped"]),
        (axes[2], "Conversations by form", counts["by_format"]),
    ):
        bars = axis.barh(list(rows), list(rows.values()), color="#9db4d6")
        axis.bar_label(bars, padding=3, fontsize=8)
        axis.margins(x=0.15)
        axis.set_title(title)
    for axis in axes:
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    plt.close(figure)
    return buffer.getvalue()


def page(run: Run, counts: dict[str, Any], chart: bytes) -> str:
    """One HTML file with everything in it; pictures as data URLs, which stay on this computer with the file."""
    tables = "".join(
        f"<table><tr><th>{html.escape(left)}<th>{html.escape(right)}"
        + "".join(f"<tr><td>{html.escape(str(name))}<td>{html.escape(str(value))}" for name, value in rows.items())
        + "</table>"
        for left, right, rows in (
            ("What", "Number", _main(counts)),
            ("Dropped because", "Answers", counts["dropped"]),
            ("Form", "Conversations", counts["by_format"]),
            ("Aspect", "Conversations", counts["by_aspect"]),
            ("Picture skipped because", "Pictures", counts["pictures_skipped"]),
        )
        if rows
    )
    examples = "".join(_example(run, picture) for picture in run.gathered.pictures[:_SHOWN])
    title = html.escape(f"{run.recipe.name}: annotation report")
    image = base64.b64encode(chart).decode()
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>{counts['date']}, teacher {html.escape(', '.join(run.models))}</p>"
        f'<img class="chart" alt="Counts by aspect, reason and form" src="data:image/png;base64,{image}">'
        f"<div class=tables>{tables}</div><h2>Pictures and what was kept about them</h2>{examples}</html>"
    )


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1c2430}"
    ".chart{width:100%}.tables{display:flex;flex-wrap:wrap;gap:1.5rem;align-items:flex-start}"
    "table{border-collapse:collapse}td,th{padding:.2rem .7rem;border-bottom:1px solid #dde3ec;text-align:left}"
    "section{display:flex;gap:1.2rem;margin:1.5rem 0}section img{width:160px;height:160px;object-fit:cover}"
    "dt{font-weight:600;white-space:pre-line}dd{margin:0 0 .6rem}small{color:#667}"
)


def _example(run: Run, picture: Picture) -> str:
    encoded = base64.b64encode((run.recipe.out / picture.path).read_bytes()).decode()
    rows = [row for row in run.dataset.conversations if row["images"] == [picture.path]]
    said = "".join(
        f"<dt>{html.escape(row['messages'][0]['content'].replace('<image>', ''))} <small>{row['format']}</small>"
        f"<dd>{html.escape(row['messages'][1]['content'])}"
        for row in rows
    )
    label = f"{AGES[picture.age]}, {GENDERS[picture.gender]}"
    mime = "png" if picture.path.endswith(".png") else "jpeg"
    source = f"data:image/{mime};base64,{encoded}"
    return f'<section><div><img alt="" src="{source}"><br><small>known: {label}</small></div><dl>{said}</dl></section>'


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
    tables = "\n".join(
        [
            *_table("What", "Number", _main(counts)),
            *_table("Form", "Conversations", counts["by_format"]),
            *_table("Aspect", "Conversations", counts["by_aspect"]),
            *_table("Dropped because", "Answers", counts["dropped"]),
        ]
    )
    return f"""---
license: {"cc-by-4.0" if source.licence == "CC BY 4.0" else "other"}
task_categories: [visual-question-answering]
language: [en]
---
# {recipe.name}

{counts["conversations"]:,} conversations about {counts["pictures"]:,} pictures of faces, made on {counts["date"]} with
`facellm annotate`. Pictures: {where}{split}, {source.licence or "licence not stated"}.
{spoiled}
Open answers were written by {", ".join(run.models) or recipe.teacher.model}, {_TOLD[recipe.teacher.prompting]}. The
labels are in no stored question. Right answers of closed questions come from the labels and, for what labels do not
cover, from a JSON object of visible facts that the same model filled in and that was checked: weak labels. Ethnicity is
in no prompt and no text. Ages and genders are as perceived by labellers.

Each line of `conversations.jsonl` (the same rows: `conversations.parquet`): `id`, `images` (paths in this folder),
`messages` (one `<image>` a picture in the first), `aspect`, `format`, `choices`, `answer` (the right letter or word).
`dataset_info.json` describes it for LLaMA-Factory.

{_pictures(run)}
## Counts

{tables}
## Prompts

{_prompts(recipe)}"""


#: What the teacher knew, by ``teacher.prompting``.
_TOLD = {
    "labels": "which was told the known age bin and gender and asked to describe what is visible",
    "question": "which was asked the stored question and told nothing; the labels only filtered its answers",
}


def _prompts(recipe: AnnotateRecipe) -> str:
    if recipe.teacher.prompting == "question":
        return "The stored questions, without a system prompt.\n"
    facts = prompts.facts_prompt(prompts.known_labels(3, 0)).replace("\n", "\n> ")
    return (
        f"System prompt:\n\n> {prompts.SYSTEM}\n\nFor the aspect expression of a child, for example:\n\n"
        f"> {prompts.open_prompt('expression', 1, 1)}\n\nFor visible facts:\n\n> {facts}\n"
    )


def _pictures(run: Run) -> str:
    source = run.recipe.source
    if not source.publish or not source.licence:
        return "Pictures are not shown here: their licence does not allow it, or is not known.\n"
    shown: list[str] = []
    for picture in run.gathered.pictures:
        rows = [r for r in run.dataset.conversations if r["images"] == [picture.path] and r["format"] == "open"]
        if rows and len(shown) < _SHOWN:
            text = rows[-1]["messages"][1]["content"].replace("|", "/")
            shown.append(f"| ![]({picture.path}) | {rows[-1]['aspect']} | {text} |")
    return "\n".join(["| picture | aspect | answer |", "|---|---|---|", *shown, f"\nPictures: {source.licence}.\n"])
