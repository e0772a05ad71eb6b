"""``facellm doctor``: everything that matters when something does not work, on one screen."""

from __future__ import annotations

import json as json_module
import platform
import shutil
import subprocess
from importlib import metadata
from typing import Annotated, Any

import typer

from facellm.cli.output import printable, write_json
from facellm.core.child import child_command
from facellm.core.command import command

#: Packages whose version decides how things behave.
PACKAGES = ("llama-cpp-python", "mediapipe", "PySide6-Essentials", "opencv-python-headless", "numpy", "pillow", "gguf")

_DEVICES_TIMEOUT_S = 30


def doctor(json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False) -> None:
    """Versions, devices, assets, models and free memory. Exit code 1 when something needed is missing."""
    report = examine()
    if json:
        write_json(report)
    else:
        for title, rows in report.items():
            if isinstance(rows, dict):
                typer.secho(title, bold=True)
                for name, value in rows.items():
                    typer.echo(printable(f"  {name:24} {value}"))
        for problem in report["problems"]:
            typer.secho(printable(problem), fg=typer.colors.RED)
    if report["problems"]:
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """The report: sections of name and value, and ``problems`` as sentences."""
    import psutil

    from facellm import __version__
    from facellm.models.store import AssetStore

    store = AssetStore()
    problems: list[str] = []
    versions = {"facellm": __version__, "python": platform.python_version(), "system": platform.platform()}
    for name in PACKAGES:
        versions[name] = _version(name, problems)
    memory = psutil.virtual_memory()
    disk = shutil.disk_usage(next(p for p in (store.root, *store.root.parents) if p.exists()))
    return {
        "versions": versions,
        "devices": _devices(problems),
        "assets": _assets(store, problems),
        "models": _models(store, problems),
        "space": {
            "data folder": str(store.root),
            "memory free": f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB",
            "disk free": f"{disk.free / 2**30:.1f} GiB",
        },
        "problems": problems,
    }


def _version(name: str, problems: list[str]) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        problems.append(f"The package {name} is not installed.")
        return "not installed"


def _devices(problems: list[str]) -> dict[str, str]:
    import psutil

    found = {"processor": f"{psutil.cpu_count(logical=False)} cores, {psutil.cpu_count()} threads"}
    command = child_command("facellm.engine.llama_devices")  # llama.cpp is never loaded beside a window
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DEVICES_TIMEOUT_S, check=False)
        told = json_module.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired) as error:
        problems.append(f"llama.cpp does not answer: {error}")
        return found
    except ValueError:
        problems.append(f"llama.cpp cannot be loaded (exit code {done.returncode}): {done.stderr.strip()[-200:]}")
        return found
    return found | {
        "llama.cpp": told["version"],
        "built for": " ".join(part.split(" = ")[0].removeprefix("CPU : ") for part in told["features"].split(" | ")),
        "computes on": ", ".join(told["devices"]) or "unknown",
        "GPU": "usable" if told["offload"] else "none usable by this build",
    }


def _assets(store: Any, problems: list[str]) -> dict[str, str]:
    from facellm.core.errors import FaceLLMError
    from facellm.models.ensure import FACE_MODELS

    states = {}
    for name in store.names():
        try:
            store.path(name)
            states[name] = "verified"
        except FaceLLMError as error:
            needed = name in FACE_MODELS or store.file(name).exists()
            states[name] = "missing" if not store.file(name).exists() else "damaged"
            if needed:
                problems.append(f"{error} {error.hint}")
    return states


def _models(store: Any, problems: list[str]) -> dict[str, str]:
    from facellm.models.packages import list_packages

    found = {
        package.name: f"{(package.llm.stat().st_size + package.mmproj.stat().st_size) / 2**20:.0f} MiB, {package.title}"
        for package in list_packages(store)
    }
    if not found:
        problems.append(f"No model is here. Run: {command('models', 'build', 'nano')}")
    return found
