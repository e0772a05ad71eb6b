"""Tensors of a checkpoint folder: one safetensors file, or shards with an index; read through memory maps."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from facellm_converters.errors import BadCheckpoint

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

#: In place of a file's name: a weight that an adapter brought along whole.
MERGED = "(adapter)"

#: Kinds of weights that are converted, as safetensors names them, and how numpy holds them (bfloat16 as bare bits).
KINDS: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "F64": np.dtype("<f8"),
}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor: its file within the folder, its shape, and its kind ("F32", "F16", "BF16", …)."""

    file: str
    shape: tuple[int, ...]
    kind: str

    @property
    def rows(self) -> int:
        """Length of the first dimension; 1 for a single value."""
        return self.shape[0] if self.shape else 1


class TensorSource(Protocol):
    """Names and shapes at once, values piece by piece: a checkpoint's files, or these with an adapter merged in."""

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """Every tensor by its stored name."""

    def read(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Rows ``start:stop`` along the first dimension as float32, a copy of the caller's own."""

    def raw(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any] | None:
        """The same as stored (bfloat16 as uint16 bits), without a copy where possible.

        ``None`` where the values exist only as float32, as a merged tensor's do.
        """

    def release(self) -> None:
        """Give the memory of what was read back to the system; called between tensors."""


@dataclass(frozen=True, slots=True)
class _Mapped:
    memory: mmap.mmap
    begin: int
    offsets: Mapping[str, int]


class Tensors:
    """A :class:`TensorSource` over files. Use :func:`opened` to make one."""

    def __init__(self, folder: Path, files: Mapping[str, _Mapped], infos: Mapping[str, TensorInfo]) -> None:
        self.folder = folder
        self.infos: Mapping[str, TensorInfo] = infos
        self._files = files

    def raw(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        info = self.infos[name]
        kind = KINDS.get(info.kind)
        if kind is None:
            raise BadCheckpoint(
                f"{name} holds {info.kind} values; {', '.join(KINDS)} can be converted.",
                "Use the checkpoint before it was quantised.",
            )
        file = self._files[info.file]
        row = int(np.prod(info.shape[1:], dtype=np.int64))
        stop = info.rows if stop is None else min(stop, info.rows)
        count, shape = (row * (stop - start), (stop - start, *info.shape[1:])) if info.shape else (1, ())
        place = self.offset(name) + start * row * kind.itemsize
        found: NDArray[Any] = np.frombuffer(file.memory, kind, count, place).reshape(shape)
        return found

    def offset(self, name: str) -> int:
        """Bytes before the tensor's values in its file."""
        file = self._files[self.infos[name].file]
        return file.begin + file.offsets[name]

    def read(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        return as_float32(self.raw(name, start, stop), self.infos[name].kind)

    def release(self) -> None:
        for file in self._files.values():
            with suppress(AttributeError, OSError, ValueError):  # no such call on Windows
                file.memory.madvise(mmap.MADV_DONTNEED)


def as_float32(values: NDArray[Any], kind: str) -> NDArray[np.float32]:
    """Stored values as float32, always a copy."""
    if kind != "BF16":
        return values.astype(np.float32)
    wide = values.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


@contextmanager
def opened(folder: Path) -> Iterator[Tensors]:
    """The weights in ``folder``.

    Raises ``BadCheckpoint`` where a file is missing or cut short, or an index and its files do not agree.
    """
    placed = _index(folder)
    names = sorted(set(placed.values())) if placed is not None else [_single(folder)]
    files: dict[str, _Mapped] = {}
    infos: dict[str, TensorInfo] = {}
    with ExitStack() as stack:
        for name in names:
            header = checked_header(folder / name)
            files[name] = stack.enter_context(_mapped(folder / name, header))
            for tensor, about in header.items():
                if tensor in infos:
                    raise BadCheckpoint(
                        f"{tensor} is in two files of {folder.name}: {infos[tensor].file} and {name}.",
                        "Remove the files that belong to another checkpoint.",
                    )
                infos[tensor] = TensorInfo(name, tuple(about["shape"]), about["dtype"])
        if placed is not None:
            _compare(folder, placed, infos)
        yield Tensors(folder, files, infos)


@contextmanager
def opened_file(path: Path) -> Iterator[Tensors]:
    """One safetensors file by its path. Raises ``BadCheckpoint``."""
    header = checked_header(path)
    with _mapped(path, header) as mapped:
        infos = {name: TensorInfo(path.name, tuple(about["shape"]), about["dtype"]) for name, about in header.items()}
        yield Tensors(path.parent, {path.name: mapped}, infos)


def checked_header(path: Path) -> dict[str, Any]:
    """The table of a safetensors file, once the library has checked that table and length agree.

    Raises ``BadCheckpoint``.
    """
    try:
        with safe_open(path, framework="np"):
            pass
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            table: dict[str, Any] = json.loads(file.read(length))
    except FileNotFoundError as error:
        raise BadCheckpoint(f"There is no file {path}.", "Check the path.") from error
    except (SafetensorError, OSError, ValueError) as error:
        size = path.stat().st_size
        raise BadCheckpoint(
            f"{path.name} is no whole safetensors file ({size:,} bytes): {error}.", "Fetch or copy it again."
        ) from error
    table.pop("__metadata__", None)
    return table


@contextmanager
def _mapped(path: Path, header: Mapping[str, Any]) -> Iterator[_Mapped]:
    with path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        begin = 8 + int.from_bytes(memory[:8], "little")
        try:
            yield _Mapped(memory, begin, {name: about["data_offsets"][0] for name, about in header.items()})
        finally:
            with suppress(BufferError):  # an array of the caller's still looks into it; then it goes with that
                memory.close()


def _single(folder: Path) -> str:
    if (folder / WEIGHTS).is_file():
        return WEIGHTS
    others = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    if others:
        raise BadCheckpoint(
            f"{folder.name} holds its weights as {others[0]}, a pickle, which can run code when it is read.",
            "Save it again with safe_serialization=True, or fetch the safetensors version.",
        )
    raise BadCheckpoint(
        f"There are no weights in {folder}: neither {WEIGHTS} nor {INDEX}.",
        "Give the folder that save_pretrained wrote, the one with config.json in it.",
    )


def _index(folder: Path) -> dict[str, str] | None:
    """Tensor name → file; ``None`` where there is no index."""
    if not (folder / INDEX).is_file():
        return None
    placed = weight_map(folder / INDEX)
    files = sorted(set(placed.values()))
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise BadCheckpoint(
            f"{len(missing)} of {len(files)} files of {folder.name} are missing: {some(missing)}.",
            "Fetch the checkpoint again; files that are whole are kept.",
        )
    return placed


def weight_map(index: Path) -> dict[str, str]:
    """Tensor name → file beside the index; whether the files are there is not asked. Raises ``BadCheckpoint``."""
    try:
        placed = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadCheckpoint(f"{index.name} cannot be read: {error}.", "Fetch the checkpoint again.") from error
    for file in placed.values():
        if not isinstance(file, str) or not file.endswith(".safetensors") or Path(file).name != file:
            raise BadCheckpoint(
                f"{index.name} names what is no safetensors file or lies outside its folder: {file!r}.",
                "Do not use this checkpoint.",
            )
    return placed


def _compare(folder: Path, placed: Mapping[str, str], infos: Mapping[str, TensorInfo]) -> None:
    absent = sorted(name for name, file in placed.items() if name not in infos or infos[name].file != file)
    if absent:
        raise BadCheckpoint(
            f"{INDEX} of {folder.name} names {len(absent)} tensors that its files do not hold: {some(absent)}.",
            "Index and weights are of different checkpoints: fetch both again.",
        )


def some(names: list[str]) -> str:
    """The first three names, for an error's sentence."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
