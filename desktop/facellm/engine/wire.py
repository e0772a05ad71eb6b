"""Messages over a byte pipe: eight bytes of length, then a pickle. Both ends are this program."""

from __future__ import annotations

import pickle
import struct
from typing import BinaryIO

_LENGTH = struct.Struct("<Q")


def send(pipe: BinaryIO, message: object) -> None:
    """Write one message and flush. Raises ``OSError`` when nobody reads any more."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.write(_LENGTH.pack(len(body)) + body)
    pipe.flush()


def receive(pipe: BinaryIO) -> object:
    """Read one message. Raises ``EOFError`` when the other end is gone, also in the middle of a message."""
    (length,) = _LENGTH.unpack(_exactly(pipe, _LENGTH.size))
    message: object = pickle.loads(_exactly(pipe, length))  # noqa: S301 - comes from our own child or parent
    return message


def _exactly(pipe: BinaryIO, count: int) -> bytes:
    data = pipe.read(count)
    if len(data) < count:
        raise EOFError
    return data
