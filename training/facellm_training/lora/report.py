"""The report of a run: what it reached, what it cost, and what it was made with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from facellm_training.lora import state
from facellm_training.lora.curves import draw_curves
from facellm_training.lora.faults import disk_faults

REPORT, CURVES, RECORD = "report.md", "curves.png", "run.json"


def write_report(
    out: Path, about: dict[str, Any], progress: state.Progress, counts: dict[str, int], dropped: dict[str, int]
) -> Path:
    """Write run.json, curves.png and report.md into ``out``. ``counts``: conversations by use and trained weights;
    ``dropped``: conversations left out, by reason. Returns the report's path. Raises ``DiskFull``."""
    rows = state.rows(out)
    summary = about | {"steps": progress.step, "stopped_early": progress.stopped, "counts": counts, "dropped": dropped}
    summary["evaluations"] = progress.evaluations
    parts = [
        f"# Fine-tuning of {about['recipe']['base']}",
        f"![Loss, closed questions and learning rate by step]({CURVES})",
        _reached(progress),
        _groups(progress),
        _cost(rows),
        _data(counts, dropped, about),
        _made_with(about),
    ]
    with disk_faults(out, "the report"):
        draw_curves(out / CURVES, rows, progress.evaluations)
        (out / RECORD).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        (out / REPORT).write_text("\n\n".join(filter(None, parts)) + "\n", encoding="utf-8")
    return out / REPORT


def _reached(progress: state.Progress) -> str:
    lines = ["## Held out", "", "| step | loss | closed: right | closed: probability of the right key | |",
             "|---|---|---|---|---|"]  # fmt: skip
    for place, row in enumerate(progress.evaluations):
        note = "best" if place == progress.best else ""
        note += " (before training)" if row["step"] == 0 else ""
        lines.append(
            f"| {row['step']} | {_number(row, 'loss')} | {_number(row, 'accuracy')} | {_number(row, 'probability')} "
            f"| {note.strip()} |"
        )
    if progress.stopped:
        lines += ["", f"Stopped early, after step {progress.step}: no better value came."]
    return "\n".join(lines)


def _number(row: dict[str, Any], name: str) -> str:
    return f"{row[name]:.4f}" if name in row else "–"


def _groups(progress: state.Progress) -> str:
    last = progress.evaluations[-1] if progress.evaluations else {}
    lines = []
    for name in ("format", "aspect"):
        for group, row in last.get(f"by_{name}", {}).items():
            lines.append(f"| {name} | {group} | {row['n']} | {row['accuracy']:.3f} | {row['probability']:.3f} |")
    if not lines:
        return ""
    head = ["## Closed questions at the end", "", "| | group | n | right | probability |", "|---|---|---|---|---|"]
    return "\n".join([*head, *lines])


def _cost(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    seconds = sum(row["seconds"] for row in rows)
    took = f"{seconds / 3600:.2f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
    conversations, tokens = (sum(row[name] for row in rows) for name in ("conversations", "tokens"))
    memory = max(row["memory"] for row in rows)
    found = (
        f"## Cost\n\n{took} in {len(rows)} steps: {conversations / seconds:.2f} conversations/s, "
        f"{tokens / seconds:.0f} tokens/s."
    )
    return found + (f" At most {memory / 2**30:.1f} GiB on the first device." if memory else "")


def _data(counts: dict[str, int], dropped: dict[str, int], about: dict[str, Any]) -> str:
    lines = ["## Data", "", *(f"- {name}: {count}" for name, count in counts.items())]
    lines += [f"- left out ({reason}): {count}" for reason, count in sorted(dropped.items())]
    return "\n".join([*lines, f"- SHA-256 of the conversations: `{about['data_sha256']}`"])


def _made_with(about: dict[str, Any]) -> str:
    names = ("commit", "device", "devices", "machine", "python", "cuda")
    lines = [f"- {name}: {about[name]}" for name in names if about[name] is not None]
    lines += [f"- {name} {number}" for name, number in about["versions"].items()]
    recipe = json.dumps(about["recipe"], indent=1)
    return "\n".join(["## Made with", "", *lines, "", "```json", recipe, "```"])
