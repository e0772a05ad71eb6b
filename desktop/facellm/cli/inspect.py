"""``facellm inspect``: what a GGUF file is, and which file beside it belongs to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from facellm.cli.output import printable, write_json
from facellm.core.sizes import bytes_text

_TEMPLATE_LINES, _TEMPLATE_LETTERS = 4, 100
_INDENT = "  "


def inspect(
    file: Annotated[Path, typer.Argument(help="A model file: language model, mmproj, adapter, or one of its shards.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say what a GGUF file is: kind, sizes, quantisation, origin, and which mmproj beside it fits.

    Only headers are read. Exit code 1 when the file is no GGUF or not whole.
    """
    from facellm.models.inspect import inspect as look

    about = look(file)
    if json:
        write_json(about)
        return
    for title, rows in _sections(about):
        told = [(name, value) for name, value in rows if value not in (None, "")]
        if told:
            typer.secho(title, bold=True)
        for name, value in told:
            first, *more = printable(str(value)).splitlines() or [""]
            typer.echo(f"{_INDENT}{name:18} {first}")
            for line in more:
                typer.echo(f"{_INDENT}{'':18} {line}")


def _sections(about: dict[str, Any]) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    yield Path(about["file"]).name, _file(about)
    if about["language"]:
        yield "language", _language(about["language"])
    if about["eyes"]:
        yield "pictures", _eyes(about["eyes"])
    if about["adapter"]:
        yield "adapter", _adapter(about["adapter"])
    yield "origin", _origin(about)
    if about["language"]:
        yield "image parts beside it", _beside(about)
    elif about["eyes"]:
        yield "language models beside it", _beside(about)


def _file(about: dict[str, Any]) -> list[tuple[str, Any]]:
    shard = about["shard"]
    which = f", shard {shard['number']} of {shard['of']}" if shard else ""
    missing = f"{len(shard['missing'])}: {', '.join(shard['missing'][:3])}" if shard and shard["missing"] else None
    shares = ", ".join(f"{one['kind']} {_per_cent(one['share'])}" for one in about["weights"])
    bits = about["bits_a_weight"]
    return [
        ("is", f"{about['kind']}{which}"),
        ("missing shards", missing),
        ("name", about["name"]),
        ("architecture", about["architecture"]),
        ("parameters", f"{_short(about['parameters'])} ({about['parameters']:,})"),
        ("size", bytes_text(about["bytes"]) + (" in the shards that are here" if shard else "")),
        ("file type", about["file_type"]),
        ("weights", shares + (f"; {bits:.2f} bits each on average" if bits else "")),
    ]


def _language(part: dict[str, Any]) -> list[tuple[str, Any]]:
    template = part["chat_template"]
    return [
        ("context", f"{part['context']:,} tokens" if part["context"] else None),
        ("layers", part["layers"]),
        ("width", part["width"]),
        ("vocabulary", f"{part['vocabulary']:,} tokens" if part["vocabulary"] else None),
        ("tokenizer", ", ".join(filter(None, (part["tokenizer"], part["pre_tokenizer"])))),
        ("chat template", _beginning(template) if template else "none"),
    ]


def _eyes(part: dict[str, Any]) -> list[tuple[str, Any]]:
    canary = part["canary"]
    return [
        ("projector", part["projector"]),
        ("tile", f"{part['tile']}×{part['tile']} px in patches of {part['patch']}" if part["tile"] else "not stated"),
        ("tokens a tile", part["tokens"] or "not told by the header"),
        ("mean", _numbers(part["mean"])),
        ("std", _numbers(part["std"])),
        ("layers", part["layers"]),
        ("width", part["width"]),
        ("gives embeddings", f"of {part['gives_width']} numbers" if part["gives_width"] else None),
        ("position table", part["position_layout"] or "its layout is not marked"),
        ("self-test", f"{canary['tokens']} tokens of {canary['picture']}" if canary else "none stored"),
    ]


def _adapter(part: dict[str, Any]) -> list[tuple[str, Any]]:
    return [
        ("kind", part["kind"]),
        ("rank", ", ".join(map(str, part["ranks"]))),
        ("alpha", part["alpha"]),
        ("matrices", part["matrices"]),
    ]


def _origin(about: dict[str, Any]) -> list[tuple[str, Any]]:
    rows = [("licence", about["licence"] or "not stated"), ("attribution", about["attribution"])]
    rows += [("base model", _named(one)) for one in about["base_models"]]
    rows += [("data", _named(one)) for one in about["datasets"]]
    rows += [(key, value) for key, value in about["provenance"].items()]
    return [*rows, ("pair", about["pair"])]


def _beside(about: dict[str, Any]) -> list[tuple[str, Any]]:
    found = [("fits" if one["fits"] else "does not fit", f"{one['file']}: {one['why']}") for one in about["beside"]]
    return found or [("none", "in the same folder")]


def _named(one: dict[str, str]) -> str:
    name = "/".join(filter(None, (one.get("organization"), one.get("name"))))
    return ", ".join(filter(None, (name, one.get("version"), one.get("url"))))


def _beginning(template: str) -> str:
    lines = template.splitlines()
    shown = [line[:_TEMPLATE_LETTERS] + ("…" if len(line) > _TEMPLATE_LETTERS else "") for line in lines]
    shown = shown[:_TEMPLATE_LINES]
    cut = len(lines) > _TEMPLATE_LINES or any(len(line) > _TEMPLATE_LETTERS for line in lines[:_TEMPLATE_LINES])
    return "\n".join([*shown, f"({len(template):,} letters; whole with --json)"] if cut else shown)


def _numbers(values: Any) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values or ())


def _per_cent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "< 1%"


def _short(count: int) -> str:
    for size, sign in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g}{sign}"
    return str(count)
