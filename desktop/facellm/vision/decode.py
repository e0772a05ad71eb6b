"""Photos from files and bytes: any common format, upright, sRGB, 8 bits, or a clear error.

Pillow decodes, because it raises where cv2 silently returns half a picture. Pillow and its plugins are imported on
first use: the window imports this file before it is shown.
"""

from __future__ import annotations

import errno
import io
import stat
import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facellm.core.errors import FaceLLMError
from facellm.core.faces import Photo
from facellm.vision.tones import to_rgb

if TYPE_CHECKING:
    from PIL.Image import Image

#: A 108 megapixel phone photo is 12000x9000; decoding one takes 0.8 GB for a moment.
MAX_PIXELS = 120_000_000
#: Longest side: beyond it JPEG ends (65,535) and indexes in image code begin to overflow.
MAX_SIDE = 65_535
#: Larger than any such photo in any of the formats, but a 120 megapixel 16-bit TIFF (720 MB).
MAX_BYTES = 1_000_000_000

#: Formats that are read. Named, so that Pillow never tries others: EPS would start Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF", "TIFF", "GIF", "BMP", "PPM", "JPEG2000")

#: What Pillow's decoders raise on damaged files, besides ``OSError``.
_DECODER_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    NotImplementedError,
    AssertionError,
    struct.error,
    zlib.error,
)

#: EXIF orientation to the turn that makes the picture upright (names of ``PIL.Image.Transpose``).
_UPRIGHT = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_ORIENTATION_TAG = 0x0112

#: Zeros at the end of a JPEG from which on they are looked into, and its markers: start of a scan, end of the picture.
_ZERO_TAIL = 512
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"

_OTHER_FILES = (
    (b"%PDF", "a PDF document", "Export the page as PNG or JPEG first."),
    (b"<svg", "a drawing (SVG)", "Export it as PNG first."),
    (b"<?xml", "an XML file", "Choose a photo: JPEG, PNG, WebP, HEIC, TIFF, BMP or GIF."),
    (b"PK\x03\x04", "an archive or office document", "Unpack it, or export the picture as PNG or JPEG."),
    (b"\x1aE\xdf\xa3", "a video", "Choose a single picture."),
)
_ANY_PHOTO = "Choose a photo: JPEG, PNG, WebP, HEIC, TIFF, BMP or GIF."


class PhotoError(FaceLLMError):
    """A photo that cannot be read; the message says which and why."""


def load_photo(path: Path) -> Photo:
    """Decode the photo at ``path``. Raises ``PhotoError`` for whatever keeps it from being one."""
    name = str(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise PhotoError(f"{name} is a folder, not a photo.", "Choose a file in it.")
        if not stat.S_ISREG(status.st_mode):
            raise PhotoError(f"{name} is a device or pipe, not a photo.", _ANY_PHOTO)
        _check_bytes(status.st_size, name)
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error
    return photo_from_bytes(data, name)


def photo_from_bytes(data: bytes, name: str) -> Photo:
    """Decode an encoded picture; ``name`` is what the user called it. Raises ``PhotoError``.

    The first frame of an animation and the first page of a document are taken; ``Photo.notes`` says so.
    """
    _check_bytes(len(data), name)
    # Pillow warns of large pictures; size is judged here, by the one limit that the user is told.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = _opened(data, name)
            _check_size(image.size, name)
            _check_tail(image, data)
            notes = _frame_notes(image)
            image.load()
            image, orientation_notes = _upright(image)
            pixels, tone_notes = to_rgb(image)
        except PhotoError:
            raise
        except MemoryError as error:
            raise PhotoError(f"There is not enough memory to open {name}.", "Close other programs.") from error
        except _DECODER_FAULTS as error:
            raise PhotoError(
                f"{name} is damaged: {_reason(error)}.", "Get the photo again from where it came from."
            ) from error
    return Photo(name, np.ascontiguousarray(pixels, np.uint8), (*notes, *orientation_notes, *tone_notes))


def _opened(data: bytes, name: str) -> Image:
    import pillow_heif
    from PIL import Image, UnidentifiedImageError

    pillow_heif.register_heif_opener()
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise PhotoError(
            f"{name} would unpack to more than {MAX_PIXELS // 1_000_000} megapixels.", "Make it smaller first."
        ) from error
    except UnidentifiedImageError as error:
        raise _not_a_picture(data, name) from error


def _not_a_picture(data: bytes, name: str) -> PhotoError:
    start = data[:256].lstrip().lower()
    for magic, what, hint in _OTHER_FILES:
        if start.startswith(magic.lower()) or (magic == b"<svg" and b"<svg" in start):
            return PhotoError(f"{name} is {what}, not a photo.", hint)
    if not any(data[:4096]):
        return PhotoError(f"{name} holds only zeros.", "Get the photo again from where it came from.")
    return PhotoError(f"{name} is not a picture that can be read.", _ANY_PHOTO)


def _check_bytes(size: int, name: str) -> None:
    if size == 0:
        raise PhotoError(f"{name} is empty.", "Get the photo again from where it came from.")
    if size > MAX_BYTES:
        raise PhotoError(
            f"{name} has {size / 1e6:.0f} MB; at most {MAX_BYTES / 1e6:.0f} MB are read.", "Make it smaller first."
        )


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise PhotoError(f"{name} has no pixels ({width} x {height}).", _ANY_PHOTO)
    if width * height > MAX_PIXELS or max(size) > MAX_SIDE:
        raise PhotoError(
            f"{name} is too large: {width} x {height} pixels; at most {MAX_PIXELS // 1_000_000} megapixels and "
            f"{MAX_SIDE} pixels a side are read.",
            "Make it smaller first.",
        )


def _check_tail(image: Image, data: bytes) -> None:
    """An interrupted copy often ends in zeros, which a JPEG decoder silently reads as grey."""
    picture = data.rstrip(b"\0")
    padded = len(data) - len(picture) >= _ZERO_TAIL
    if image.format == "JPEG" and padded and picture.rfind(_JPEG_END) < picture.rfind(_JPEG_SCAN):
        raise ValueError("its end is missing and filled with zeros")


def _frame_notes(image: Image) -> tuple[str, ...]:
    frames = int(getattr(image, "n_frames", 1))
    # A phone's JPEG with a preview or depth map (MPO) is one photo to its owner.
    return (f"first of {frames} pictures in the file",) if frames > 1 and image.format != "MPO" else ()


def _upright(image: Image) -> tuple[Image, tuple[str, ...]]:
    """EXIF orientation applied once (libheif and Pillow's TIFF reader have done it already and say 1)."""
    from PIL.Image import Transpose

    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except _DECODER_FAULTS:
        return image, ("damaged EXIF data ignored",)
    return (image.transpose(Transpose[turn]) if turn else image), ()


def _unreadable(name: str, error: OSError | ValueError) -> PhotoError:
    code = error.errno if isinstance(error, OSError) else None
    if code in (errno.ENOENT, errno.ENOTDIR):
        return PhotoError(f"There is no file {name}.", "Check the path.")
    if code in (errno.EACCES, errno.EPERM):
        return PhotoError(f"{name} may not be read.", "Change its permissions, or copy it to your own folder.")
    if code == errno.ELOOP:
        return PhotoError(f"{name} is a link that leads back to itself.", "Choose the photo itself.")
    return PhotoError(f"{name} cannot be read: {_reason(error)}.", "Check the path and the drive.")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [""])[0].rstrip(". ") or type(error).__name__
