"""``facellm faces``: what is found in a photo, without asking a model anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facellm.cli.output import Progress, box_row, facts_row, number, printable, show_error, write_json
from facellm.cli.unexpected import as_error
from facellm.core.errors import FaceLLMError

if TYPE_CHECKING:
    from facellm.core.faces import Face, Photo
    from facellm.vision.finder import FaceFinder

#: Names of a face's six points, in order; right and left are the person's own.
POINTS = ("right eye", "left eye", "nose", "mouth", "right ear", "left ear")


def faces(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO…", help="Pictures to look at.", show_default=False)],
    json: Annotated[bool, typer.Option("--json", help="One JSON object a photo and line on stdout.")] = False,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write the picture with its boxes, and the exact square that the model would receive of each face; "
            "files that are there already stay as they are.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="The model whose square --save writes.")] = "nano",
) -> None:
    """Find the faces of photos: boxes, letters, scores, points, measured facts.

    A photo without faces is an answer (exit code 0); one that cannot be read is not (exit code 1, after the others).
    """
    from facellm.cli.saving import Saver
    from facellm.vision.decode import load_photo

    saver = Saver(save, _tile(model)) if save is not None else None
    failed = False
    with Progress() as progress, open_finder() as finder:
        for path in photos:
            try:
                progress.doing(f"Looking for faces in {path}")
                photo = load_photo(path)
                found = list(finder.find(photo))
                saved = saver.save(path, photo, found) if saver is not None else []
            except (FaceLLMError, MemoryError) as raised:
                error = as_error(raised)
                progress.clear()
                failed = True
                if json:
                    write_json({"image": str(path), "error": str(error)})
                show_error(error, about=str(path))
                continue
            progress.clear()
            if json:
                write_json(_row(path, photo, found, saved))
            else:
                typer.echo(_text(path, photo, found, saved))
    if failed:
        raise typer.Exit(1)


def _tile(model: str) -> int:
    """The side of the square that the model takes. Raises ``ModelMissing``."""
    from facellm.models.packages import find_package
    from facellm.models.store import AssetStore

    return find_package(model, AssetStore()).tile


def open_finder() -> FaceFinder:
    """The finder with the models of the asset store. Raises ``AssetMissing`` when they are not there yet."""
    from facellm.models.store import AssetStore
    from facellm.vision.finder import FaceFinder, FaceModels

    store = AssetStore()
    models = FaceModels(store.path("face-landmarker"), store.path("yunet"))
    return FaceFinder(models)


def _row(path: Path, photo: Photo, found: list[Face], saved: list[Path]) -> dict[str, object]:
    row: dict[str, object] = {
        "image": str(path),
        "width": photo.width,
        "height": photo.height,
        "faces": [
            {
                "label": face.label,
                "box": box_row(face.box),
                "score": number(face.box.score),
                "points": {
                    name: None if None in point else point
                    for name, point in zip(POINTS, ([number(v, 1) for v in xy] for xy in face.points), strict=True)
                },
                "facts": facts_row(face.facts),
            }
            for face in found
        ],
    }
    return row | ({"saved": [str(file) for file in saved]} if saved else {})


def _text(path: Path, photo: Photo, found: list[Face], saved: list[Path]) -> str:
    count = {0: "no face", 1: "1 face"}.get(len(found), f"{len(found)} faces")
    lines = [f"{path}: {photo.width} × {photo.height} px, {count}"]
    for face in found:
        x, y, w, h = (round(side) for side in (face.box.x, face.box.y, face.box.w, face.box.h))
        lines.append(f"  {face.label}  {w} × {h} px at {x}, {y}  score {face.box.score:.2f}")
        known = {name: value for name, value in facts_row(face.facts).items() if value is not None}
        lines.append("     " + "  ".join(f"{name} {value:g}" for name, value in known.items()))
    return printable("\n".join([*lines, *(f"  wrote {file}" for file in saved)]))
