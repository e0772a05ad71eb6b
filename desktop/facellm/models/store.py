"""Where assets lie on this computer: verified by hash, fetched once, shared by all checkouts of one user."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from facellm.core.errors import FaceLLMError
from facellm.models.download import DownloadError
from facellm.models.filelock import locked
from facellm.models.manifest import Asset, read_manifest
from facellm.models.sources import fetch

#: Set to a folder to keep all of FaceLLM's data there; set OFFLINE_ENV to 1 to fetch nothing.
HOME_ENV, OFFLINE_ENV = "FACELLM_HOME", "FACELLM_OFFLINE"

Progress = Callable[[float], None]


class AssetMissing(FaceLLMError):
    """An asset is not on this computer."""


class AssetCorrupt(FaceLLMError):
    """An asset's bytes are not the ones expected."""


class SourceFailed(FaceLLMError):
    """No source gave the asset."""


def data_folder() -> Path:
    """FaceLLM's folder in the user's data folder, or what ``FACELLM_HOME`` says."""
    home = os.environ.get(HOME_ENV)
    if home:
        return Path(home).expanduser().resolve()
    from platformdirs import user_data_path

    return user_data_path("facellm", appauthor=False)


class AssetStore:
    """The assets of the manifest below one folder."""

    def __init__(self, root: Path | None = None, manifest: dict[str, Asset] | None = None) -> None:
        self.root = root or data_folder()
        self._manifest = manifest if manifest is not None else read_manifest()

    @property
    def models(self) -> Path:
        """Folder of model packages, one folder each."""
        return self.root / "models"

    def asset(self, name: str) -> Asset:
        """The manifest's entry. Raises ``KeyError``."""
        return self._manifest[name]

    def names(self) -> list[str]:
        return list(self._manifest)

    def file(self, name: str) -> Path:
        """Where the asset lies or would lie."""
        return self.root / "assets" / self._manifest[name].file

    def path(self, name: str) -> Path:
        """The verified file. Raises ``AssetMissing`` or ``AssetCorrupt``; fetches nothing."""
        file = self.file(name)
        if not file.is_file():
            raise AssetMissing(f"{self._manifest[name].title} is not on this computer.", "Run: facellm models ensure")
        self.verify(name, trust_stamp=True)
        return file

    def ensure(self, name: str, on_progress: Progress | None = None) -> Path:
        """The verified file, fetched if missing.

        Raises ``SourceFailed`` with every source's reason, ``AssetCorrupt`` for wrong bytes,
        ``AssetMissing`` when fetching is switched off.
        """
        file = self.file(name)
        if not file.is_file():
            if os.environ.get(OFFLINE_ENV) == "1":
                raise AssetMissing(
                    f"{self._manifest[name].title} is not on this computer, and {OFFLINE_ENV}=1 forbids fetching it.",
                    f"Unset {OFFLINE_ENV}, or copy {file.name} to {file.parent}.",
                )
            with locked(self.root / "assets" / f".{file.name}.lock"):
                if not file.is_file():  # another process may have fetched it while this one waited
                    self._fetch(name, on_progress)
        return self.path(name)

    def verify(self, name: str, *, trust_stamp: bool = False) -> None:
        """Hash the file and compare. ``trust_stamp``: skip when size and time are as at the last good check.

        Raises ``AssetMissing``, or ``AssetCorrupt`` naming both hashes.
        """
        asset, file = self._manifest[name], self.file(name)
        if not file.is_file():
            raise AssetMissing(f"{asset.title} is not on this computer.", "Run: facellm models ensure")
        stamp = file.with_name(f".{file.name}.verified")
        state = [file.stat().st_size, file.stat().st_mtime_ns, asset.sha256]
        if trust_stamp and stamp.is_file() and _read_stamp(stamp) == state:
            return
        found = file_sha256(file)
        if found != asset.sha256:
            stamp.unlink(missing_ok=True)
            raise AssetCorrupt(
                f"{file.name} is not what it should be: its sha256 is {found}, expected {asset.sha256}.",
                f"Delete {file} and run: facellm models ensure",
            )
        stamp.write_text(json.dumps(state))

    def _fetch(self, name: str, on_progress: Progress | None) -> None:
        asset, file = self._manifest[name], self.file(name)
        free = shutil.disk_usage(file.parent).free
        # A carrier is unpacked beside the file, so that about three times its size is needed for a moment.
        if free < 3 * asset.size:
            raise SourceFailed(
                f"{asset.title} needs {3 * asset.size // 2**20} MB on {file.parent}, {free // 2**20} MB are free.",
                f"Free some space, or set {HOME_ENV} to a folder on another disk.",
            )
        part, reasons = file.with_name(f".{file.name}.part"), []
        for source in asset.sources:
            try:
                fetch(source, asset, part, on_progress)
            except DownloadError as error:
                reasons.append(f"{source}: {error}")
                continue
            found = file_sha256(part)
            if found == asset.sha256:
                os.replace(part, file)
                return
            part.unlink()
            reasons.append(f"{source}: wrong bytes (sha256 {found}, expected {asset.sha256})")
        kind = AssetCorrupt if reasons and all("wrong bytes" in reason for reason in reasons) else SourceFailed
        raise kind(
            f"{asset.title} could not be had from any source:\n  " + "\n  ".join(reasons),
            f"Check the network and try again, or copy {asset.file} to {file.parent} by hand.",
        )


def file_sha256(path: Path) -> str:
    """sha256 of a file in lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_stamp(stamp: Path) -> object:
    try:
        return json.loads(stamp.read_text())
    except (ValueError, OSError):
        return None
