"""The card beside a converted pair: what it is, what it was made from, and what its files are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from facellm_converters.layouts.checkpoint import Checkpoint
from facellm_converters.write.fields import About
from facellm_converters.write.stream import Written

LLAVA_FAULT = (
    "llama.cpp's graph for LLaVA leaves out the first patch of a picture and gives the class token as the last one "
    "(its issue 25814). The position table is rolled, so that every other token is right; these two are not."
)


def write_card(path: Path, checkpoint: Checkpoint, about: About, files: Sequence[Written]) -> None:
    """Markdown."""
    text, vision = checkpoint.text, checkpoint.vision
    lines = [
        f"# {about.name}", "",
        f"Converted from a checkpoint of the kind {checkpoint.config.get('architectures', ['?'])[0]}.", "",
        f"- Language part: {text.architecture}, {text.layers} layers of {text.width}",
        f"- Image part: {vision.layers} layers of {vision.width}",
        f"- A picture: one tile of {vision.image}×{vision.image} px, {vision.tokens} tokens",
        f"- Licence: {about.licence or 'not stated in the checkpoint; find out before you pass it on'}",
        f"- Base model: {', '.join(about.base_models) or 'not stated'}",
        f"- Data: {', '.join(about.datasets) or 'not stated'}",
    ]  # fmt: skip
    lines += [f"- {key}: {value}" for key, value in sorted(about.provenance.items())]
    if checkpoint.kind == "llava":
        lines += ["", LLAVA_FAULT]
    lines += ["", "| file | bytes | SHA-256 |", "|---|---|---|"]
    lines += [f"| {one.path.name} | {one.path.stat().st_size:,} | `{one.sha256}` |" for one in files]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
