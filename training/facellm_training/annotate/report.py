"""The run's report, as Markdown and as one self-contained page."""

from __future__ import annotations

import base64
import html
import io
import json
from collections import Counter
from typing import Any

from facellm_training.annotate.card import card
from facellm_training.annotate.counts import Run, main_counts, table
from facellm_training.annotate.files import write_whole
from facellm_training.annotate.pictures import Picture
from facellm_training.annotate.server import address
from facellm_training.data.fairface import AGES, GENDERS

#: Pictures that the page shows with all their conversations.
_SHOWN = 6


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
        *table("What", "Number", main_counts(counts)),
        *table("Dropped because", "Answers", counts["dropped"]),
        *table("Form", "Conversations", counts["by_format"]),
        *table("Aspect", "Conversations", counts["by_aspect"]),
    ]
    if counts["pictures_skipped"]:
        lines += table("Picture skipped because", "Pictures", counts["pictures_skipped"])
    return "\n".join(lines)


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
        if not rows:
            axis.text(0.5, 0.5, "none", ha="center", va="center", transform=axis.transAxes)
            axis.set(xticks=[], yticks=[])
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
            ("What", "Number", main_counts(counts)),
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
