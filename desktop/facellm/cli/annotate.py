"""``facellm annotate``: door to the annotation of faces by a teacher model."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from facellm.cli.output import Progress, write_json
from facellm.cli.train import require_training

#: Seconds between two changes of the line on a terminal, and between two lines elsewhere.
_TERMINAL_S, _LINE_S = 0.2, 5.0


def annotate(
    recipe: Annotated[Path, typer.Argument(help="A recipe, for example training/recipes/fairfacegpt.yaml.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Send the pictures to the server that the estimate names.")
    ] = False,
    base_url: Annotated[str, typer.Option(help="Of an OpenAI-compatible server, in place of the recipe's.")] = "",
    model: Annotated[str, typer.Option(help="The teacher, in place of the recipe's.")] = "",
    data: Annotated[str, typer.Option(help="A folder of FairFace parquet, or of pictures and a table.")] = "",
    out: Annotated[Path | None, typer.Option(help="The data set's folder, in place of the recipe's.")] = None,
    split: Annotated[str, typer.Option(help="train, or validation (which is refused).")] = "",
    limit: Annotated[int | None, typer.Option(help="At most so many pictures.")] = None,
    budget: Annotated[float | None, typer.Option(help="Dollars that may be spent in all.")] = None,
    mode: Annotated[str, typer.Option(help="live, or batch: half the price, within 24 hours.")] = "",
    spoil_validation: Annotated[
        bool,
        typer.Option(
            "--spoil-validation",
            help="Allow the validation split. Wrong for any model that will be measured: benchmarks ask about it.",
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="The report as one JSON line on stdout.")] = False,
) -> None:
    """Have a teacher model describe labelled faces (FairFaceGPT). Without --yes: what it would cost, and no more."""
    require_training("openai", "pydantic", "yaml", "pyarrow", "matplotlib")
    from facellm_training.annotate.recipe import changed, read_recipe
    from facellm_training.annotate.run import annotate as run

    settings = changed(
        read_recipe(recipe), base_url=base_url, model=model, data=data, out=out, split=split, limit=limit,
        budget=budget, mode=mode,
    )  # fmt: skip
    with Progress() as progress:
        counts = run(settings, progress.say, _Seldom(progress), yes=yes, spoil_validation=spoil_validation)
    if json:
        write_json(counts)
        return
    dropped = counts["answered"] - counts["kept"]
    typer.echo(f"{counts['conversations']} conversations, {dropped} answers dropped: {settings.out}")
    typer.echo(f"Report: {settings.out / 'report.html'}")


class _Seldom:
    """Passes on the newest line of progress, not every one."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._gap = _TERMINAL_S if sys.stderr.isatty() else _LINE_S
        self._said = 0.0

    def __call__(self, line: str) -> None:
        if time.monotonic() - self._said >= self._gap or line.startswith("Stopping"):
            self._said = time.monotonic()
            self._progress.doing(line)
