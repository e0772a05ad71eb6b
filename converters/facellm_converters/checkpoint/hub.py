"""Fetches a model of the hub into the cache that the hub's own library keeps: resumed, and compared with its hashes.

The library begins a file anew when its download was broken off, which for shards of 5 GB is too much to lose; so its
parts are used here: the list, the addresses, the log-in and the download from a place on.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Self

from facellm.models.filelock import locked
from facellm_converters.checkpoint.tensors import INDEX, WEIGHTS, some
from facellm_converters.errors import BadCheckpoint, ConversionError
from facellm_converters.place import SPARE
from facellm_converters.progress import EVERY, Tell

CONFIGURATION, ADAPTER = "config.json", "adapter_model.safetensors"

#: What is fetched beside the weights: never a pickle, never code.
_SMALL = re.compile(
    r"[^/\\]+\.(json|jinja)|tokenizer\.model|vocab\.txt|merges\.txt|(README|LICEN[CS]E)(\.(md|txt|rst))?", re.IGNORECASE
)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_COMMIT, _SHA1, _SHA256 = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")
_TIMEOUT_S = 20.0
_PIECE = 1 << 22


@dataclass(frozen=True, slots=True)
class HubId:
    """A model of the hub: ``owner/name``, and a branch, tag or commit of it."""

    repo: str
    revision: str = "main"

    @property
    def name(self) -> str:
        """Without its owner."""
        return self.repo.partition("/")[2]

    def storage(self, root: Path) -> Path:
        """The model's folder in a cache."""
        return root / f"models--{self.repo.replace('/', '--')}"

    def commit_in(self, root: Path) -> str:
        """The commit that the revision was when it was last fetched; empty when it never was."""
        if _COMMIT.fullmatch(self.revision):
            return self.revision
        try:
            found = (self.storage(root) / "refs" / self.revision).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""
        return found if _COMMIT.fullmatch(found) else ""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of the hub's list. ``tag``: its SHA-256, or git's SHA-1 of a small one; the cache names it so."""

    name: str
    size: int
    tag: str


def shards_of(index: Path) -> set[str]:
    """Names of the weight files in an index. Raises ``BadCheckpoint``."""
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadCheckpoint(f"{index.name} cannot be read: {error}.", "Fetch the checkpoint again.") from error
    if not all(isinstance(name, str) and name.endswith(".safetensors") and Path(name).name == name for name in names):
        raise BadCheckpoint(
            f"{index.name} names files that are no safetensors beside it.", "Do not use this checkpoint."
        )
    return names


class Fetch:
    """One model on its way into the cache ``root``. Errors of the library and of the disk come as they are."""

    def __init__(self, hub: HubId, root: Path, endpoint: str, tell: Tell) -> None:
        from huggingface_hub import utils

        self._hub, self._root, self._endpoint, self._tell = hub, root, endpoint, tell
        library: Any = utils  # which does not say that it means this one to be used
        self._headers = library.build_hf_headers()
        self._storage = hub.storage(root)
        self._blobs = self._storage / "blobs"
        self._snapshot = self._storage / "snapshots"

    def run(self) -> Path:
        """Fetch what a conversion reads and is not there yet; returns the folder that it is in."""
        files = self._listed()
        self._check_kind(files)
        self._check_room([one for one in files.values() if _SMALL.fullmatch(one.name)])
        with locked(self._root / ".locks" / self._storage.name / "facellm.lock"):
            self._fetch_all("fetching configuration", [one for one in files.values() if _SMALL.fullmatch(one.name)])
            weights = self._weights(files)
            self._check_room(weights)
            self._fetch_all("fetching weights", weights)
            self._remember()
        return self._snapshot

    def _listed(self) -> dict[str, HubFile]:
        """The model's files by name, those in folders left out. From here on the commit is known."""
        from huggingface_hub import HfApi

        info = HfApi(endpoint=self._endpoint).model_info(
            self._hub.repo, revision=self._hub.revision, files_metadata=True, timeout=_TIMEOUT_S
        )
        found = {}
        for each in info.siblings or ():
            size, tag = (each.lfs.size, each.lfs.sha256) if each.lfs else (each.size, each.blob_id)
            known = size is not None and (_SHA256 if each.lfs else _SHA1).fullmatch(tag or "")
            if known and not re.search(r"[/\\]", each.rfilename):
                found[each.rfilename] = HubFile(each.rfilename, int(size or 0), str(tag))
        if not _COMMIT.fullmatch(info.sha or "") or not found:
            raise ValueError("its list names no commit, or no files with size and hash")
        self._snapshot = self._storage / "snapshots" / str(info.sha)
        return found

    def _check_kind(self, files: Mapping[str, HubFile]) -> None:
        if any(name.endswith(".safetensors") for name in files):
            return
        gguf = sorted(name for name in files if name.endswith(".gguf"))
        pickles = sorted(name for name in files if name.endswith(_PICKLES))
        but = f", but {some(gguf or pickles)}" if gguf or pickles else ""
        raise BadCheckpoint(
            f"{self._hub.repo} holds no safetensors weights{but}.",
            "It is converted already: fetch its GGUF files, and put them into a folder of the models." if gguf else
            "Use another revision or model; a pickle can run code when it is read, and is not fetched.",
        )  # fmt: skip

    def _weights(self, files: Mapping[str, HubFile]) -> list[HubFile]:
        """Those that the index names; without one those of the usual names, else all that there are."""
        there = [one for one in files.values() if one.name.endswith(".safetensors")]
        if INDEX not in files:
            return [one for one in there if one.name in (WEIGHTS, ADAPTER)] or there
        wanted = shards_of(self._snapshot / INDEX)
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
                f"{_size(need)} of {self._hub.repo} are to be fetched; {_size(free)} are free in {self._root}.",
                "Make room, or set HF_HUB_CACHE to a folder on a larger disk.",
            )

    def _fetch_all(self, step: str, files: list[HubFile]) -> None:
        there = [one for one in files if self._place_of(one)]
        done, whole = sum(one.size for one in there), sum(one.size for one in files)
        self._tell(step, done, whole)
        for one in files:
            if one not in there:
                self._fetch(one, partial(self._told, step, done, whole))
                done += one.size
            self._link(one)

    def _told(self, step: str, before: int, whole: int, count: int) -> None:
        self._tell(step, before + count, whole)

    def _place_of(self, one: HubFile) -> Path | None:
        """Where the whole file lies already, perhaps since another revision was fetched."""
        places = (self._snapshot / one.name, self._blobs / one.tag)
        return next((place for place in places if place.is_file() and _length(place) == one.size), None)

    def _part(self, one: HubFile) -> Path:
        return self._blobs / f"{one.tag}.incomplete"

    def _fetch(self, one: HubFile, told: Callable[[int], None]) -> None:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get

        part, commit = self._part(one), self._snapshot.name
        part.parent.mkdir(parents=True, exist_ok=True)
        if _length(part) > one.size:
            part.unlink()
        url = hf_hub_url(self._hub.repo, one.name, revision=commit, endpoint=self._endpoint)
        with part.open("a+b") as file:
            sink, quiet = _Sink(file, one, told), _Quiet
            begin, headers = sink.tell(), dict(self._headers)
            _get: Any = http_get  # its types ask for tqdm's bar and for more of a file than it uses
            _get(url, sink, resume_size=begin, headers=headers, expected_size=one.size, tqdm_class=quiet)
            file.flush()
            os.fsync(file.fileno())
        if sink.hash() != one.tag:
            part.unlink()
            raise BadCheckpoint(
                f"{one.name} of {self._hub.repo} has another hash than the hub lists: {sink.hash()[:12]}…, "
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


class _Sink:
    """The file that the library writes into: hashes and counts what passes, beginning with what is there."""

    def __init__(self, file: IO[bytes], one: HubFile, told: Callable[[int], None]) -> None:
        self._file, self._one, self._told = file, one, told
        self._begin()
        file.seek(0)
        while piece := file.read(_PIECE):
            self._count(piece)

    def _begin(self) -> None:
        self._place = self._said = 0
        git = len(self._one.tag) == hashlib.sha1(usedforsecurity=False).digest_size * 2
        self._digest = hashlib.sha1(usedforsecurity=False) if git else hashlib.sha256()
        if git:
            self._digest.update(b"blob %d\0" % self._one.size)

    def _count(self, data: bytes) -> None:
        self._digest.update(data)
        self._place += len(data)
        if self._place - self._said >= EVERY or self._place == self._one.size:
            self._said = self._place
            self._told(self._place)

    def hash(self) -> str:
        return self._digest.hexdigest()

    def tell(self) -> int:
        return self._place

    def write(self, data: bytes) -> None:
        if self._place + len(data) > self._one.size:
            raise ValueError(f"more than the {self._one.size:,} bytes listed come of {self._one.name}")
        self._file.write(data)
        self._count(data)

    def seek(self, place: int) -> None:
        """The library goes back to the start when a server cannot go on from where it was asked to."""
        if place:
            raise ValueError(f"the download of {self._one.name} goes back to {place}")

    def truncate(self) -> None:
        self._file.truncate(0)
        self._begin()


class _Quiet:
    """In place of the library's progress bar."""

    def __init__(self, **_options: Any) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def update(self, count: int) -> None:
        pass


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
