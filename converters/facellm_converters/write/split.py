"""A GGUF file as shards of at most some size: llama.cpp's quantiser writes one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, GGUFValueType, ReaderTensor

from facellm_converters.write.sink import Sink
from facellm_converters.write.stream import ALIGNMENT, Progress, Written, new_writer

_CHUNK = 4 << 20
#: What the reader adds to the fields that are in the file, and what each writer says by itself.
_NOT_COPIED = ("GGUF.", "general.architecture")


def split_file(source: Path, path: Path, size: int, progress: Progress) -> list[Written]:
    """Write ``source`` again as shards of at most ``size`` bytes of tensors, named after ``path``; their hashes.

    The first shard has all fields. Raises ``OSError``.
    """
    reader = GGUFReader(source)
    writer = new_writer(reader.fields["general.architecture"].contents(), size)
    for field in reader.fields.values():
        if not field.name.startswith(_NOT_COPIED):
            kind, sub = field.types[0], field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, sub)
    for tensor in reader.tensors:
        shape = tuple(int(side) for side in reversed(tensor.shape))
        writer.add_tensor_info(tensor.name, shape, np.dtype(np.float32), tensor.n_bytes, tensor.tensor_type)
    return _written(writer, path, source, {tensor.name: tensor for tensor in reader.tensors}, progress)


def _written(
    writer: Any, path: Path, source: Path, tensors: dict[str, ReaderTensor], progress: Progress
) -> list[Written]:
    written: list[Written] = []
    try:
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        with source.open("rb") as read:  # not through the reader's map, whose pages would count as memory
            for file, names in zip(writer.fout, writer.tensors, strict=True):
                writer.write_padding(file, file.tell())
                with Sink(file) as sink:
                    for name in names:
                        read.seek(tensors[name].data_offset)
                        _copy(read, sink, int(tensors[name].n_bytes), progress)
                    written.append(Written(Path(file.name), sink.finish()))
        return written
    finally:
        writer.close()


def _copy(read: Any, sink: Sink, left: int, progress: Progress) -> None:
    padding = -left % ALIGNMENT
    while left:
        piece = read.read(min(left, _CHUNK))
        if not piece:
            raise OSError(f"{read.name} ends too early")
        sink.write(piece)
        progress(len(piece))
        left -= len(piece)
    if padding:
        sink.write(bytes(padding))
