"""The report as one HTML file: pictures and plots are in it, nothing is loaded from anywhere."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from facellm.core.errors import FaceLLMError
from facellm_training.evaluate.items import Item, Picture, load_picture
from facellm_training.evaluate.journal import Reply
from facellm_training.evaluate.tables import Table

#: Side of a picture among the mistakes, in pixels.
THUMB = 128
#: Mistakes shown of each model.
WORST = 12
#: Characters of a question shown with a mistake, from its end: before that a tools' description stands.
LONGEST = 1500

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums;display:block;overflow-x:auto}
th,td{padding:.25rem .6rem;border-bottom:1px solid #dde1e6;text-align:left;vertical-align:top}
th{border-bottom:2px solid #9aa4b0}
img.plot{max-width:100%;display:inline-block;vertical-align:top;margin:.4rem .4rem .4rem 0}
.mistakes{display:grid;grid-template-columns:repeat(auto-fill,minmax(240px,1fr));gap:.8rem}
.mistakes figure{margin:0;padding:.6rem;border:1px solid #dde1e6;border-radius:6px;font-size:13px}
.mistakes figcaption{overflow-wrap:anywhere}
.mistakes details{white-space:pre-wrap;color:#57606a}
.mistakes img{max-width:128px;max-height:128px;margin-right:4px}
pre{background:#f4f6f8;padding:.8rem;overflow-x:auto;font-size:12px}
"""


@dataclass(frozen=True, slots=True)
class Mistake:
    """``sure``: how probable the wrong answer was, 0..1; ``None`` where the model tells no probabilities."""

    item: Item
    said: str
    sure: float | None


def worst_mistakes(items: Sequence[Item], replies: dict[str, Reply]) -> list[Mistake]:
    """Wrong answers by probability, at most ``WORST``, the surest first."""
    found = []
    for item in items:
        logs = replies[item.id].logprobs
        if logs is None:
            continue
        best = int(np.argmax(logs))
        if best != item.right:
            found.append(Mistake(item, item.options[best], float(np.exp(logs[best]))))
    return sorted(found, key=lambda mistake: -(mistake.sure or 0.0))[:WORST]


def html_page(
    title: str, tables: Sequence[Table], plots: Sequence[tuple[str, bytes]], mistakes: dict[str, list[Mistake]],
    settings: dict[str, Any], skipped: dict[str, int],
) -> str:  # fmt: skip
    """``plots``: (what it shows, PNG). ``mistakes`` by model. ``skipped``: reason → number of questions."""
    parts = [f"<h1>{escape(title)}</h1>", tables[0].html()]
    parts += [f'<img class="plot" alt="{escape(name)}" src="{_data_url(png, "png")}">' for name, png in plots]
    parts += [table.html() for table in tables[1:]]
    if skipped:
        parts.append(skipped_table(skipped).html())
    for name, found in mistakes.items():
        if found:
            parts.append(f"<h2>Surest mistakes of {escape(name)}</h2><div class=mistakes>")
            parts += [_figure(mistake) for mistake in found]
            parts.append("</div>")
    parts.append(f"<h2>What decides the scores</h2><pre>{escape(json.dumps(settings, indent=1))}</pre>")
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return head + "\n".join(parts) + "</html>\n"


def skipped_table(skipped: dict[str, int]) -> Table:
    """Reason and number, the most frequent first."""
    rows = [[reason, str(count)] for reason, count in sorted(skipped.items(), key=lambda pair: -pair[1])]
    return Table("Questions left out of every column", ["reason", "questions"], rows)


def _figure(mistake: Mistake) -> str:
    item = mistake.item
    pictures = "".join(f'<img alt="" src="{url}">' for url in map(_thumb, item.pictures) if url)
    sure = "" if mistake.sure is None else f", {100 * mistake.sure:.0f} % sure"
    said = f"said <b>{escape(mistake.said)}</b>{sure}; label: <b>{escape(item.options[item.right])}</b>"
    asked = f"<details><summary>{escape(item.id)}</summary>{escape(item.prompt[-LONGEST:])}</details>"
    return f"<figure>{pictures}<figcaption>{escape(item.task)}: {said}{asked}</figcaption></figure>"


def _thumb(picture: Picture) -> str:
    try:
        image = Image.fromarray(load_picture(picture))
    except FaceLLMError:
        return ""
    image.thumbnail((THUMB, THUMB))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return _data_url(out.getvalue(), "jpeg")


def _data_url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
