"""Writes a GGUF file tensor by tensor: read, change, encode and write overlap, and memory holds a few pieces."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellm_converters.layouts.checkpoint import Checkpoint
from facellm_converters.write.kinds import encode, same_bytes, stored_bytes
from facellm_converters.write.plan import Piece
from facellm_converters.write.sink import Sink
from facellm_converters.write.writer import Writer

#: Values in one piece of work: 1 MB as float32, which a core's own cache still holds. Twice as fast as 16 MB pieces.
VALUES = 1 << 18
#: Pieces that are worked on ahead of the one that is being written, for each thread.
AHEAD = 4
#: GGUF's own.
ALIGNMENT = 32
#: Bytes written after which the memory of what was read for them is given back.
MAPPED = 16 << 20

#: Told how many bytes were written since the last call.
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Written:
    """A file and its SHA-256 in hexadecimal."""

    path: Path
    sha256: str


def write_file(
    writer: Any, path: Path, checkpoint: Checkpoint, pieces: Sequence[Piece], threads: int, progress: Progress
) -> list[Written]:
    """Header and fields of ``writer`` (a ``GGUFWriter`` without tensors) and the tensors. Returns the files: shards, if
    the writer splits.

    Raises ``BadCheckpoint`` for weights that are no numbers, and ``OSError``.
    """
    for piece in pieces:
        writer.add_tensor_info(piece.name, piece.shape, np.dtype(np.float32), total(piece), piece.kind)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    written: list[Written] = []
    by_name = {piece.name: piece for piece in pieces}
    try:
        with ThreadPoolExecutor(threads, "encode") as pool:
            for file, tensors in zip(writer.fout, writer.tensors, strict=True):
                writer.write_padding(file, file.tell())
                with Sink(file) as sink:
                    _write_tensors(sink, [by_name[name] for name in tensors], checkpoint, pool, threads, progress)
                    written.append(Written(Path(file.name), sink.finish()))
        return written
    finally:
        writer.close()


def new_writer(architecture: str, split: int = 0) -> Any:
    """A ``Writer``; ``split``: bytes of a shard, 0 for one file."""
    return Writer(None, architecture, split_max_size=split)


def total(piece: Piece) -> int:
    """Bytes of a tensor in the file."""
    return stored_bytes(piece.kind, piece.shape)


def _write_tensors(
    file: Sink,
    pieces: Sequence[Piece],
    checkpoint: Checkpoint,
    pool: ThreadPoolExecutor,
    threads: int,
    progress: Progress,
) -> None:
    mapped = 0
    waiting: deque[tuple[Future[NDArray[Any]], int]] = deque()

    def write_first() -> None:
        nonlocal mapped
        future, padding = waiting.popleft()
        data = future.result()
        file.write(np.ascontiguousarray(data).data.cast("B"))
        if padding:
            file.write(bytes(padding))
        progress(data.nbytes + padding)
        mapped += data.nbytes
        if mapped > MAPPED:  # what others are reading just now is mapped in again
            checkpoint.tensors.release()
            mapped = 0

    try:
        for piece in pieces:
            jobs = list(_jobs(checkpoint, piece))
            for number, job in enumerate(jobs, 1):
                padding = -total(piece) % ALIGNMENT if number == len(jobs) else 0
                waiting.append((pool.submit(job), padding))
                while len(waiting) > threads * AHEAD:
                    write_first()
        while waiting:
            write_first()
        checkpoint.tensors.release()
    finally:
        for future, _ in waiting:
            future.cancel()


def _jobs(checkpoint: Checkpoint, piece: Piece) -> Iterator[Callable[[], NDArray[Any]]]:
    rows = piece.shape[0] if piece.shape else 1
    if piece.change is not None or len(piece.shape) < 2:
        yield partial(_whole, checkpoint, piece)
        return
    step = max(1, VALUES // int(np.prod(piece.shape[1:], dtype=np.int64)))
    for start in range(0, rows, step):
        yield partial(_rows, checkpoint, piece, start, min(rows, start + step))


def _whole(checkpoint: Checkpoint, piece: Piece) -> NDArray[Any]:
    values = checkpoint.read(piece.source)
    if piece.change is not None:
        values = piece.change(values)
    assert values.shape == piece.shape, f"{piece.name}: {values.shape} instead of {piece.shape}"
    return encode(values, piece.kind, piece.source)


def _rows(checkpoint: Checkpoint, piece: Piece, start: int, stop: int) -> NDArray[Any]:
    raw = checkpoint.raw(piece.source, start, stop)
    if raw is not None:
        same = same_bytes(raw, checkpoint.kind_of(piece.source), piece.kind, piece.source)
        if same is not None:
            return same
    return encode(checkpoint.read(piece.source, start, stop), piece.kind, piece.source)
