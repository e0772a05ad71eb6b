"""Fetches a model of the hub into the cache that the hub's own library keeps: resumed, and compared with its hashes.

The library gives the list and the log-in. Its download begins a file anew when it was broken off, which for shards of
5 GB is too much to lose; so files are fetched as the application's own are.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from facellm.core.command import command
from facellm.core.sizes import bytes_text
from facellm.models.download import SILENCE_S, Progress, download
from facellm.models.filelock import locked
from facellm.models.hub_id import HubId
from facellm_converters.checkpoint.hub_pair import PairKinds, PairNames, pick_pair
from facellm_converters.checkpoint.tensors import INDEX, WEIGHTS, some, weight_map
from facellm_converters.errors import BadCheckpoint, ConversionError
from facellm_converters.place import SPARE
from facellm_converters.progress import Tell

CONFIGURATION, ADAPTER = "config.json", "adapter_model.safetensors"

#: What is fetched beside the weights: never a pickle, never code.
_SMALL = re.compile(
    r"[^/\\]+\.(json|jinja)|tokenizer\.model|vocab\.txt|merges\.txt|(README|LICEN[CS]E)(\.(md|txt|rst))?", re.IGNORECASE
)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_SHA1, _SHA256 = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")  # a commit is named by the first, too


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of the hub's list. ``tag``: its SHA-256, or git's SHA-1 of a small one; the cache names it so."""

    name: str
    size: int
    tag: str

    def hash_of(self, path: Path) -> str:
        """The tag of what is at ``path``, brought to the disk first: later only its size is looked at."""
        git = _SHA1.fullmatch(self.tag)
        with path.open("r+b") as file:
            os.fsync(file.fileno())
            begin = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False) if git else hashlib.sha256()
            return hashlib.file_digest(file, lambda: begin).hexdigest()


class Fetch:
    """One model on its way into the cache ``root``. Errors of the library, the downloads and the disk come as is."""

    def __init__(self, hub: HubId, root: Path, endpoint: str, tell: Tell, kinds: PairKinds | None = None) -> None:
        """``kinds``: of the GGUF pair that is fetched where there are no safetensors; ``None``: that is refused."""
        from huggingface_hub import constants, get_token

        self._hub, self._root, self._endpoint, self._tell = hub, root, endpoint, tell
        self._token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
        self._storage = hub.storage(root)
        self._blobs = self._storage / "blobs"
        self._snapshot = self._storage / "snapshots"
        self._kinds = kinds
        #: The pair that was chosen, where it is one.
        self.pair: PairNames | None = None

    def run(self) -> Path:
        """Fetch what a conversion reads and is not there yet; returns the folder that it is in."""
        files = self._listed()
        self._check_kind(files)
        small = [one for one in files.values() if _SMALL.fullmatch(one.name)]
        self._check_room(small)
        with locked(self._root / ".locks" / self._storage.name / "facellm.lock"):
            self._fetch_all("fetching configuration", small)
            weights = self._weights(files)
            self._check_room(weights)
            self._fetch_all("fetching weights", weights)
            self._remember()
        return self._snapshot

    def _listed(self) -> dict[str, HubFile]:
        """The model's files by name, those in folders left out. From here on the commit is known."""
        from huggingface_hub import HfApi

        info = HfApi(endpoint=self._endpoint).model_info(
            self._hub.repo, revision=self._hub.revision, files_metadata=True, timeout=SILENCE_S
        )
        found = {}
        for each in info.siblings or ():
            size, tag = (each.lfs.size, each.lfs.sha256) if each.lfs else (each.size, each.blob_id)
            known = size is not None and (_SHA256 if each.lfs else _SHA1).fullmatch(tag or "")
            if known and not re.search(r"[/\\]", each.rfilename):
                found[each.rfilename] = HubFile(each.rfilename, int(size or 0), str(tag))
        if not _SHA1.fullmatch(info.sha or "") or not found:
            raise ValueError("its list names no commit, or no files with size and hash")
        self._snapshot = self._storage / "snapshots" / str(info.sha)
        return found

    def _check_kind(self, files: Mapping[str, HubFile]) -> None:
        if any(name.endswith(".safetensors") for name in files):
            return
        gguf = sorted(name for name in files if name.endswith(".gguf"))
        if gguf and self._kinds:
            self.pair = pick_pair(self._hub.repo, gguf, self._kinds)
            return
        pickles = sorted(name for name in files if name.endswith(_PICKLES))
        but = f", but {some(gguf or pickles)}" if gguf or pickles else ""
        raise BadCheckpoint(
            f"{self._hub.repo} holds no safetensors weights{but}.",
            f"It is converted already. Run: {command('models', 'import', self._hub.repo)}" if gguf else
            "Use another revision or model; a pickle can run code when it is read, and is not fetched.",
        )  # fmt: skip

    def _weights(self, files: Mapping[str, HubFile]) -> list[HubFile]:
        """Those that the index names; without one those of the usual names, else all that there are."""
        if self.pair:
            return [files[name] for name in (*self.pair.language, self.pair.mmproj)]
        there = [one for one in files.values() if one.name.endswith(".safetensors")]
        if INDEX not in files:
            return [one for one in there if one.name in (WEIGHTS, ADAPTER)] or there
        wanted = set(weight_map(self._snapshot / INDEX).values())
        absent = sorted(wanted - files.keys())
        if absent:
            raise BadCheckpoint(
                f"{INDEX} of {self._hub.repo} names {len(absent)} files that are not there: {some(absent)}.",
                "Use another revision of the model.",
            )
        return [files[name] for name in sorted(wanted)]

    def _check_room(self, files: list[HubFile]) -> None:
        need = sum(one.size - min(one.size, _length(self._part(one))) for one in files if not self._place_of(one))
        free = shutil.disk_usage(next(path for path in (self._storage, *self._storage.parents) if path.exists())).free
        if need and need + SPARE > free:
            raise ConversionError(
                f"{bytes_text(need)} of {self._hub.repo} are to be fetched; "
                f"{bytes_text(free)} are free in {self._root}.",
                "Make room, or set HF_HUB_CACHE to a folder on a larger disk.",
            )

    def _fetch_all(self, step: str, files: list[HubFile]) -> None:
        there = [one for one in files if self._place_of(one)]
        done, whole = sum(one.size for one in there), sum(one.size for one in files)
        self._tell(step, done, whole)
        for one in files:
            if one not in there:
                self._fetch(one, partial(self._told, step, done, one.size, whole))
                done += one.size
                self._tell(step, done, whole)
            self._link(one)

    def _told(self, step: str, before: int, size: int, whole: int, share: float) -> None:
        self._tell(step, before + round(share * size), whole)

    def _place_of(self, one: HubFile) -> Path | None:
        """Where the whole file lies already, perhaps since another revision was fetched."""
        places = (self._snapshot / one.name, self._blobs / one.tag)
        return next((place for place in places if place.is_file() and _length(place) == one.size), None)

    def _part(self, one: HubFile) -> Path:
        return self._blobs / f"{one.tag}.incomplete"

    def _fetch(self, one: HubFile, on_progress: Progress) -> None:
        part = self._part(one)
        part.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        if _length(part) != one.size:  # else it was broken off just before it was compared
            url = f"{self._endpoint}/{self._hub.repo}/resolve/{self._snapshot.name}/{quote(one.name)}"
            download(url, part, one.size, on_progress, token=self._token)
        found = one.hash_of(part)
        if found != one.tag:
            part.unlink()
            raise BadCheckpoint(
                f"{one.name} of {self._hub.repo} has another hash than the hub lists: {found[:12]}…, "
                f"not {one.tag[:12]}….",
                "It was thrown away. Fetch it again; if it stays so, do not use the model.",
            )
        os.replace(part, self._blobs / one.tag)

    def _link(self, one: HubFile) -> None:
        blob, place = self._blobs / one.tag, self._snapshot / one.name
        if place.is_file() and _length(place) == one.size:
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        try:
            place.symlink_to(os.path.relpath(blob, place.parent))
        except (OSError, NotImplementedError):  # Windows, without the right to make links
            os.replace(blob, place)

    def _remember(self) -> None:
        """Which commit the revision is, for a time without network."""
        if self._hub.revision != self._snapshot.name:
            ref = self._storage / "refs" / self._hub.revision
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(self._snapshot.name, encoding="ascii")


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
