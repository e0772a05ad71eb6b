"""pip in two steps: fetch, which changes nothing in the environment, then install from the fetched files alone.

So that a network that fails costs nothing: what was installed before goes on working.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from bootstrap.console import SetupError, run_step
from bootstrap.places import LOG, REQUIREMENTS, inner_environment, venv_python

#: Exactly the locked files; dependencies stand in the lock, so none are looked for.
EXACTLY = ("--require-hashes", "--no-deps", "-r")
#: In the folder of fetched files once all of them are there: which ones those are.
FETCHED = "fetched.txt"
#: pip says "no matching distribution" for an index that it could not reach, too; only then without other versions.
OTHER_VERSIONS = re.compile(r"\(from versions: (?!none\))[^)]")
NETWORK = re.compile(r"Retrying \(|Could not fetch URL|connection error|timed out", re.IGNORECASE)
INSTALLED = """
from importlib.metadata import distributions
for each in distributions():
    print(each.metadata["Name"], each.version)
"""


class NoSuchDistribution(SetupError):
    """The index answered, and has no such file for this machine: trying again would change nothing."""


def fetch(title: str, lock: str, *, everything: bool = False) -> Path | None:
    """Download the lock's files that the environment lacks (or ``everything``); None when it lacks none.

    Raises ``NoSuchDistribution`` when there are none to be had, ``SetupError`` when they could not be fetched.
    """
    wanted = entries(lock) if everything else missing(lock)
    if not wanted:
        return None
    folder, text = LOG.parent / "fetched" / lock.removesuffix(".txt"), "\n".join(wanted) + "\n"
    done, asked = folder / FETCHED, folder / "asked.txt"
    if done.exists() and done.read_text("utf-8") == text:
        return folder  # the set-up before came this far
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    asked.write_text(text, encoding="utf-8")
    try:
        pip(title, "download", "--dest", str(folder), *EXACTLY, str(asked))
    except SetupError as error:
        if _definitely_absent(str(error)):
            raise NoSuchDistribution(str(error)) from error
        raise
    asked.rename(done)
    return folder


def install(title: str, folder: Path | None) -> None:
    """Install what ``fetch`` brought, without the network. Raises ``SetupError``."""
    if folder is None:
        return
    # A source archive, where a platform has no wheel, is built with tools that pip fetches itself.
    whole = all(file.suffix in (".whl", ".txt") for file in folder.iterdir())
    index = ("--no-index",) if whole else ()
    pip(title, "install", "--force-reinstall", *index, "--find-links", str(folder), *EXACTLY, str(folder / FETCHED))
    shutil.rmtree(folder, ignore_errors=True)


def pip(title: str, word: str, *arguments: str) -> None:
    """Run the environment's pip. Raises ``SetupError``."""
    command = [str(venv_python()), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    command += [word, "--progress-bar", "off", *arguments]
    run_step(title, command, LOG, inner_environment() | {"PIP_USER": "0"})


def entries(lock: str) -> list[str]:
    """The lock's entries, each with its marker and hashes."""
    return re.split(r"\n(?=[A-Za-z0-9])", (REQUIREMENTS / lock).read_text("utf-8").strip())


def missing(lock: str) -> list[str]:
    """The entries that are not installed in exactly their version; markers are left for pip to judge."""
    present = _installed()
    found = []
    for entry in entries(lock):
        match = re.match(r"([A-Za-z0-9._-]+)={2,3}([^\s;\\]+)", entry)
        if not match or present.get(_plain(match[1])) != {match[2]}:
            found.append(entry)
    return found


def _installed() -> dict[str, set[str]]:
    """Package → its versions: two of them are the remains of a change that failed."""
    # From a folder of no packages, without the variables and the user's own packages: the environment alone.
    ask = [str(venv_python()), "-I", "-X", "utf8", "-c", INSTALLED]
    answer = subprocess.run(ask, capture_output=True, encoding="utf-8", check=False)
    found: dict[str, set[str]] = {}
    for line in answer.stdout.splitlines():
        name, _, version = line.rpartition(" ")
        found.setdefault(_plain(name), set()).add(version)
    return found


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _definitely_absent(told: str) -> bool:
    said_so = "No matching distribution found" in told and OTHER_VERSIONS.search(told)
    return bool(said_so) and not NETWORK.search(told)
