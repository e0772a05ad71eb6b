"""Numbers in words: what an answer cost and what the model received."""

from __future__ import annotations

from collections.abc import Iterable

from facellm.core.ask import Timings
from facellm.core.faces import WHOLE
from facellm.core.sizes import bytes_text


def face_title(label: str | None) -> str:
    """ "Face A", "Whole picture", or nothing."""
    if label is None:
        return ""
    return "Whole picture" if label == WHOLE else f"Face {label}"


def joined(words: Iterable[str]) -> str:
    """Words for one wrapping line, which breaks between them and not inside one."""
    return " · ".join(word.replace(" ", "\N{NO-BREAK SPACE}") for word in words)


def seconds(value: float) -> str:
    """ "0.35 s", "4.1 s", "2 min"."""
    if value < 1:
        return f"{value:.2f} s"
    if value < 60:
        return f"{value:.1f} s"
    return f"{value / 60:.0f} min"


def left(value: float | None) -> str:
    """ "about 4 s left", or nothing when unknown."""
    if value is None:
        return ""
    if value < 1:
        return "almost done"
    return f"about {value:.0f} s left" if value < 90 else f"about {value / 60:.0f} min left"


def transfer(done: int, total: int, bytes_per_s: float, seconds_left: float | None) -> str:
    """ "1.2 GB of 5.0 GB · 48 MB/s · about 80 s left"; what is not known is left out."""
    moved = "" if not done else f"{bytes_text(done)} of {bytes_text(total)}" if total else bytes_text(done)
    speed = f"{bytes_text(round(bytes_per_s))}/s" if bytes_per_s >= 1 else ""
    return " · ".join(filter(None, (moved, speed, left(seconds_left))))


def importing(name: str, fraction: float) -> str:
    """ "Importing qwen… 34 %"."""
    return f"Importing {name}…" + (f" {100 * fraction:.0f} %" if fraction > 0 else "")


def plural(count: int, noun: str) -> str:
    """ "1 word", "3 words"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def speed(tokens_per_s: float) -> str:
    """ "68 tokens/s", "0.4 tokens/s"."""
    return f"{tokens_per_s:.0f} tokens/s" if tokens_per_s >= 10 else f"{tokens_per_s:.1f} tokens/s"


def cost(timings: Timings) -> str:
    """One caption line under a finished answer."""
    parts = [f"{seconds(timings.first_token_s)} to the first word", plural(timings.tokens, "token")]
    if timings.tokens_per_s > 0 and timings.tokens > 1:
        parts.append(speed(timings.tokens_per_s))
    return " · ".join(parts)


def received_rows(timings: Timings, side: int) -> list[tuple[str, str]]:
    """The measured part of "what the model received": (name, value) pairs in reading order."""
    encode = f"{seconds(timings.encode_s)}" if timings.encode_s > 0 else "kept from before"
    rows = [
        ("Picture", f"{side} × {side} px"),
        ("Picture tokens", f"{timings.image_tokens}"),
        ("Prompt tokens", f"{timings.prompt_tokens}"),
        ("Reading the picture", encode),
        ("First word after", seconds(timings.first_token_s)),
        ("Answer", plural(timings.tokens, "token")),
    ]
    if timings.tokens_per_s > 0 and timings.tokens > 1:
        rows.append(("Speed", speed(timings.tokens_per_s)))
    return rows
