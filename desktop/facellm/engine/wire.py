"""Messages over a byte pipe: eight bytes of length, then a pickle. Both ends are this program."""

from __future__ import annotations

import pickle
import struct
from typing import BinaryIO

_LENGTH = struct.Struct("<Q")


class Unreadable(Exception):
    """A whole message that this program cannot read: its other end is another version of it."""


def send(pipe: BinaryIO, message: object) -> None:
    """Write one message and flush. Raises ``OSError`` when nobody reads any more."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.write(_LENGTH.pack(len(body)) + body)
    pipe.flush()


def receive(pipe: BinaryIO) -> object:
    """Read one message.

    Raises ``EOFError`` when the other end is gone, also in the middle of a message, and ``Unreadable``.
    """
    (length,) = _LENGTH.unpack(_exactly(pipe, _LENGTH.size))
    body = _exactly(pipe, length)
    try:
        message: object = pickle.loads(body)  # noqa: S301 - comes from our own child or parent
    except Exception as error:
        # Unpickling runs constructors, so that any error at all may come out of it.
        raise Unreadable(f"a message cannot be read ({type(error).__name__}: {error})") from error
    return message


def _exactly(pipe: BinaryIO, count: int) -> bytes:
    data = pipe.read(count)
    if len(data) < count:
        raise EOFError
    return data
