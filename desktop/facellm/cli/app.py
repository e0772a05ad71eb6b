"""``facellm``: without a command the window, with one the command line.

Exit codes: 0 done, 1 something failed and stderr says what, 2 wrong usage, 130 interrupted,
141 the reader of a pipe went away. Nothing heavy is imported here: ``facellm --help`` is to be instant.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from facellm.cli.annotate import annotate
from facellm.cli.ask import ask
from facellm.cli.convert import convert, parity
from facellm.cli.doctor import doctor
from facellm.cli.evaluate import evaluate_app
from facellm.cli.faces import faces
from facellm.cli.importing import import_model
from facellm.cli.inspect import inspect
from facellm.cli.models import models_app
from facellm.cli.output import show_error
from facellm.cli.release import release
from facellm.cli.serve import serve
from facellm.cli.train import checkpoint, train
from facellm.cli.unexpected import as_error, wants_traceback
from facellm.core.child import run_if_child

FAILED, INTERRUPTED, BROKEN_PIPE = 1, 130, 141
_PHOTO = "facellm.photo"


class _Commands(TyperGroup):
    """The outermost boundary of every command: an error becomes one sentence and an exit code.

    A lone file instead of a command is a photo for the window, as a file manager's "Open with" gives it.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if len(args) == 1 and args[0] not in self.commands and os.path.isfile(args[0]):  # noqa: PTH113 - pathlib loads slower
            ctx.meta[_PHOTO] = args.pop()
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (TyperException, typer.Exit, typer.Abort):  # wrong usage, and exit codes that a command chose
            raise
        except BrokenPipeError:
            _drop_unwritten()
            ctx.exit(BROKEN_PIPE)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except Exception as error:  # noqa: BLE001 - the outermost boundary: also of what nobody has foreseen
            if wants_traceback():
                traceback.print_exception(error)
            show_error(as_error(error))
            _drop_unwritten()
            ctx.exit(FAILED)


def _drop_unwritten() -> None:
    """What a full disk or a closed pipe did not take would fail again, with a traceback, when Python ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app = typer.Typer(
    name="facellm",
    cls=_Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(ask)
app.command()(faces)
models_app.command("import")(import_model)
app.add_typer(models_app, name="models")
app.command()(convert)
app.command()(parity)
app.command()(doctor)
app.command()(inspect)
app.command()(serve)
app.command()(annotate)
app.command()(train)
app.command()(release)
app.command()(checkpoint)
app.add_typer(evaluate_app, name="evaluate")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"facellm {version('facellm')}")
        except PackageNotFoundError:
            typer.echo("facellm (not installed, run from its sources)")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - read by its callback
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Ask questions about the faces in a photo, on this computer, offline.

    Without a command, or with a photo alone, the window opens.
    """
    if context.invoked_subcommand is None:
        from facellm.ui.app import run_window

        raise typer.Exit(run_window([sys.argv[0], *([context.meta[_PHOTO]] if _PHOTO in context.meta else [])]))


def main() -> None:
    """Entry point of the ``facellm`` command; of a frozen application also its children's."""
    if getattr(sys, "frozen", False):
        run_if_child(sys.argv)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a letter of a file's name must not end an answer.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    app()


if __name__ == "__main__":
    main()
