"""Where assets lie on this computer: verified by hash, fetched once, shared by all checkouts of one user."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from facellm.core.command import command
from facellm.core.errors import FaceLLMError
from facellm.models.download import DownloadError
from facellm.models.filelock import locked
from facellm.models.manifest import Asset, Source, read_manifest
from facellm.models.publish import file_sha256, publish
from facellm.models.sources import carrier_folders, fetch

#: Set to a folder to keep all of FaceLLM's data there; set OFFLINE_ENV to 1 to fetch nothing.
HOME_ENV, OFFLINE_ENV = "FACELLM_HOME", "FACELLM_OFFLINE"

#: What an installer ships: assets by their file names, and models/NAME/ as in the user's own folder.
BUNDLE = Path(__file__).resolve().parents[1] / "resources" / "bundle"

Progress = Callable[[float], None]


class AssetMissing(FaceLLMError):
    """An asset is not on this computer."""


class AssetCorrupt(FaceLLMError):
    """An asset's bytes are not the ones expected."""


class SourceFailed(FaceLLMError):
    """No source gave the asset."""


class StoreUnwritable(FaceLLMError):
    """The data folder cannot be written to, or the disk is full."""


def data_folder() -> Path:
    """FaceLLM's folder in the user's data folder, or what ``FACELLM_HOME`` says."""
    home = os.environ.get(HOME_ENV)
    if home:
        return Path(home).expanduser().resolve()
    from platformdirs import user_data_path

    return user_data_path("facellm", appauthor=False)


class AssetStore:
    """The manifest's assets: below ``root``, or where an installer shipped them (``bundle``, never written to)."""

    def __init__(
        self, root: Path | None = None, manifest: Mapping[str, Asset] | None = None, *, bundle: Path = BUNDLE
    ) -> None:
        self.root = root or data_folder()
        self.bundle = bundle
        self._manifest = read_manifest() if manifest is None else dict(manifest)

    @property
    def models(self) -> Path:
        """Folder of the user's model packages, one folder each."""
        return self.root / "models"

    @property
    def assets(self) -> Path:
        """Folder of fetched assets."""
        return self.root / "assets"

    def asset(self, name: str) -> Asset:
        """The manifest's entry. Raises ``KeyError``."""
        return self._manifest[name]

    def names(self) -> list[str]:
        return list(self._manifest)

    def file(self, name: str) -> Path:
        """Where the asset lies or would lie: the user's own copy, else one that was shipped."""
        asset = self._manifest[name]
        own = self.assets / asset.file
        if not own.is_file():
            for source in asset.sources:
                if source.kind == "bundle" and (self.bundle / source.place).is_file():
                    return self.bundle / source.place
        return own

    def path(self, name: str) -> Path:
        """The verified file. Raises ``AssetMissing`` or ``AssetCorrupt``; fetches nothing."""
        self.verify(name, trust_stamp=True)
        return self.file(name)

    def ensure(self, name: str, on_progress: Progress | None = None) -> Path:
        """The verified file, fetched when missing or damaged. ``on_progress`` gets the share done, 0..1.

        Raises ``SourceFailed`` with every source's reason, ``AssetCorrupt`` when all of them give wrong
        bytes, ``AssetMissing`` when fetching is switched off, ``StoreUnwritable``.
        """
        if self._good(name):
            return self.file(name)
        if os.environ.get(OFFLINE_ENV) == "1":
            asset = self._manifest[name]
            if self.file(name).is_file():
                return self.path(name)  # raises: it is there and damaged
            raise AssetMissing(
                f"{asset.title} is not on this computer, and {OFFLINE_ENV}=1 forbids fetching it.",
                f"Unset {OFFLINE_ENV}, or copy {asset.file} to {self.assets}.",
            )
        try:
            with locked(self.assets / f".{self._manifest[name].file}.lock"):
                if not self._good(name):  # another process may have fetched it while this one waited
                    self._fetch(self._manifest[name], on_progress)
        except OSError as error:
            raise StoreUnwritable(
                f"{self.assets} cannot be written to: {error.strerror or error}.",
                f"Free some space, mend its permissions, or set {HOME_ENV} to another folder.",
            ) from error
        return self.path(name)

    def verify(self, name: str, *, trust_stamp: bool = False) -> None:
        """Hash the file and compare. ``trust_stamp``: skip when size and time are as at the last good check.

        Raises ``AssetMissing``, or ``AssetCorrupt`` naming both hashes.
        """
        asset, file = self._manifest[name], self.file(name)
        if not file.is_file():
            raise AssetMissing(f"{asset.title} is not on this computer.", f"Run: {command('models', 'ensure')}")
        stamp = self.assets / f".{asset.file}.verified"
        state: list[object] = [str(file), file.stat().st_size, file.stat().st_mtime_ns, asset.sha256]
        if trust_stamp and _read_stamp(stamp) == state:
            return
        found = file_sha256(file)
        if found != asset.sha256:
            stamp.unlink(missing_ok=True)
            raise AssetCorrupt(
                f"{file.name} is not what it should be: its sha256 is {found}, expected {asset.sha256}.",
                f"Run: {command('models', 'ensure')}",
            )
        _write_stamp(stamp, state)

    def _good(self, name: str) -> bool:
        try:
            self.path(name)
        except (AssetMissing, AssetCorrupt):
            return False
        return True

    def _fetch(self, asset: Asset, on_progress: Progress | None) -> None:
        """Try every source; called with the asset's lock held."""
        sources = [source for source in asset.sources if source.kind != "bundle"]  # that one would have been found
        needed = asset.size + max((source.carrier for source in sources), default=0)
        free = shutil.disk_usage(self.assets).free
        if free < needed:
            raise SourceFailed(
                f"{asset.title} needs {needed // 2**20 + 1:,} MB on {self.assets}; {free // 2**20:,} MB are free.",
                f"Free some space, or set {HOME_ENV} to a folder on another disk.",
            )
        reasons = []
        for number, source in enumerate(sources):
            part = self.assets / f".{asset.file}.{number}.part"
            reason = self._try(source, asset, part, on_progress)
            if reason is None:
                self._sweep(asset)
                return
            reasons.append(f"{source}: {reason}")
        kind = AssetCorrupt if reasons and all("wrong bytes" in reason for reason in reasons) else SourceFailed
        raise kind(
            f"{asset.title} could not be had from any source:\n  " + "\n  ".join(reasons),
            f"Check the network and try again, or copy {asset.file} to {self.assets} by hand.",
        )

    def _try(self, source: Source, asset: Asset, part: Path, on_progress: Progress | None) -> str | None:
        """Fetch, check and publish; why not, or ``None``. Wrong bytes are deleted."""
        for folder in carrier_folders(part):
            shutil.rmtree(folder, ignore_errors=True)
        while True:
            resumed = part.is_file()
            try:
                fetch(source, asset.size, part, on_progress)
            except DownloadError as error:
                return str(error)
            found = file_sha256(part)
            if found == asset.sha256:
                publish(part, self.assets / asset.file)
                return None
            part.unlink()
            if not resumed:
                return f"wrong bytes (sha256 {found}, expected {asset.sha256})"
            # What an earlier, broken run left may itself have been wrong: once more from the beginning.

    def _sweep(self, asset: Asset) -> None:
        """Delete beginnings that other sources left: the asset is there."""
        for part in self.assets.glob(f".{asset.file}.*.part"):
            part.unlink(missing_ok=True)


def _read_stamp(stamp: Path) -> object:
    try:
        return json.loads(stamp.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return None


def _write_stamp(stamp: Path, state: list[object]) -> None:
    """Where stamps cannot be kept, each start hashes anew: slower, and still right."""
    try:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(json.dumps(state), encoding="utf-8")
    except OSError:
        return
