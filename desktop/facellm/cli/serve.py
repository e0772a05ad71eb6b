"""``facellm serve``: a model behind OpenAI's interface, for programs on this computer."""

from __future__ import annotations

import os
import secrets
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from facellm.cli.ask import Device
from facellm.core.command import command
from facellm.core.errors import FaceLLMError

if TYPE_CHECKING:
    from facellm.server.serving import Server

KEY_ENV = "FACELLM_SERVER_KEY"


class BadKey(FaceLLMError):
    """The key cannot be used."""


def serve(
    model: Annotated[str, typer.Option(help=f"One of: {command('models', 'list')}.")] = "nano",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    key_env: Annotated[
        str, typer.Option(help="The environment variable with the key that clients must send.")
    ] = KEY_ENV,
    device: Annotated[Device, typer.Option(help="Where the model computes.")] = Device.AUTO,
    context: Annotated[int, typer.Option(min=512, help="Tokens of pictures, messages and answer together.")] = 4096,
    json: Annotated[bool, typer.Option("--json", help="The address as one JSON line on stdout.")] = False,
) -> None:
    """Answer OpenAI-compatible requests on this computer until Ctrl-C. No other computer can reach the server.

    Without a key in the environment one is made and shown once. When the line with the address comes, the model is
    loaded.
    """
    from facellm.cli.faces import open_finder
    from facellm.cli.output import Progress
    from facellm.engine.protocol import EngineOptions
    from facellm.models.packages import find_package
    from facellm.models.store import AssetStore
    from facellm.server.serving import Server

    key = _key(key_env)
    package = find_package(model, AssetStore())
    options = EngineOptions(device=device.value, context=context)
    signal.signal(signal.SIGTERM, _interrupt)
    # Ctrl-C is how a server is ended: nothing has failed.
    with (
        suppress(KeyboardInterrupt),
        Server(package, key or secrets.token_urlsafe(24), open_finder, options=options, port=port) as server,
    ):
        with Progress() as progress:
            server.load(progress.loading)
        _announce(server, package.name, key_env if key else "", json)
        _wait()


def _key(name: str) -> str:
    """The key in the environment, "" for none. Raises ``BadKey``."""
    key = os.environ.get(name, "")
    if not key and name != KEY_ENV:
        raise BadKey(f"The environment variable {name} is not set.", "Set it, or leave out --key-env.")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise BadKey(f"The key in {name} holds other signs than plain letters, digits and marks.", "Choose another.")
    return key


def _announce(server: Server, model: str, key_env: str, json: bool) -> None:
    """One line, when the model is ready. A key that came from the environment is not shown."""
    from facellm.cli.output import write_json

    secret = {"key_env": key_env} if key_env else {"key": server.key}
    if json:
        write_json({"url": server.url, **secret, "model": model, "pid": os.getpid()})
    else:
        where = f"key in {key_env}" if key_env else f"key {server.key}"
        typer.echo(f"{model} answers at {server.url} ({where}). Ctrl-C ends it.")


def _wait() -> None:
    """Until a signal; in pieces, because on Windows nothing ends a longer wait."""
    for_ever = threading.Event()
    while not for_ever.wait(0.5):
        continue


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
