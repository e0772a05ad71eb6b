"""Files that are broken, misleading or not photos: a clear error, or the right picture with a note. Never a crash."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facellm.core.faces import Photo
from facellm.vision.decode import PhotoError, load_photo, photo_from_bytes
from facellm.vision.finder import FaceFinder

RNG = np.random.default_rng(7)
NOISE = Image.fromarray(RNG.integers(0, 256, (90, 120, 3), np.uint8))
GARBAGE = RNG.bytes(50_000)
SMOOTH = Image.fromarray(np.add.outer(np.arange(90), np.arange(120)).astype(np.uint8)).convert("RGB")


def enc(image: Image.Image, kind: str, **options: Any) -> bytes:
    import pillow_heif

    pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2) -> bytes:
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + png_chunk(b"IEND", b"")


def flipped(data: bytes, start: float, count: int = 40) -> bytes:
    """``count`` bytes changed from this part of the file on."""
    at = int(len(data) * start)
    return data[:at] + bytes(byte ^ 0xA5 for byte in data[at : at + count]) + data[at + count :]


def heic_header_only() -> bytes:
    data = enc(SMOOTH, "HEIF")
    return data[: data.find(b"mdat") + 8]


def gif_with_wrong_size() -> bytes:
    data = bytearray(enc(SMOOTH, "GIF"))
    data[6:10] = struct.pack("<HH", 65535, 65535)
    return bytes(data)


def bmp_with_size(width: int, height: int) -> bytes:
    data = bytearray(enc(SMOOTH, "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def looping_tiff() -> bytes:
    data = bytearray(enc(SMOOTH, "TIFF"))
    ifd = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, ifd)[0]
    struct.pack_into("<I", data, ifd + 2 + 12 * count, ifd)  # the next page is this page
    return bytes(data)


BOMB = png(30000, 30000, png_chunk(b"IDAT", zlib.compress(bytes(30_000_000))))
TEXT_BOMB = png(
    120,
    90,
    png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(80_000_000))),
    png_chunk(b"IDAT", zlib.compress(bytes(90 * 361))),
)

#: What must be refused: a word of the sentence that says why.
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "is empty"),
    "one byte": (lambda: b"\xff", "not a picture"),
    "zeros": (lambda: bytes(100_000), "only zeros"),
    "random bytes": (lambda: GARBAGE, "not a picture"),
    "text": (lambda: b"Dear photo,\n" * 500, "not a picture"),
    "svg": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><rect/></svg>', "a drawing"),
    "svg after xml": (lambda: b'<?xml version="1.0"?>\n<svg width="9"/>', "a drawing"),
    "pdf": (lambda: b"%PDF-1.7\n%\xe2\xe3\n1 0 obj", "a PDF"),
    "eps": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", "not a picture"),
    "zip": (lambda: b"PK\x03\x04" + bytes(200), "an archive"),
    "webm": (lambda: b"\x1aE\xdf\xa3" + bytes(200), "a video"),
    "jpeg cut in half": (lambda: enc(NOISE, "JPEG")[: len(enc(NOISE, "JPEG")) // 2], "truncated"),
    "jpeg header only": (lambda: enc(NOISE, "JPEG")[:300], "damaged|not a picture"),
    "jpeg whose end is zeros": (lambda: enc(NOISE, "JPEG")[:4000] + bytes(4000), "filled with zeros"),
    "png cut in half": (lambda: enc(NOISE, "PNG")[:9000], "truncated"),
    "png with a flipped byte": (lambda: flipped(enc(NOISE, "PNG"), 0.5), "damaged"),
    "webp cut": (lambda: enc(NOISE, "WEBP")[:2000], "damaged|not a picture"),
    "tiff cut": (lambda: enc(NOISE, "TIFF")[:9000], "truncated"),
    "lzw tiff cut": (lambda: enc(NOISE, "TIFF", compression="tiff_lzw")[:9000], "damaged|not a picture"),
    "gif cut": (lambda: enc(NOISE, "GIF")[:3000], "truncated"),
    "bmp cut": (lambda: enc(NOISE, "BMP")[:9000], "truncated"),
    "heic cut": (lambda: enc(NOISE, "HEIF")[:-3000], "damaged|not a picture"),
    "heic without data": (heic_header_only, "damaged|not a picture"),
    "avif cut": (lambda: enc(NOISE, "AVIF")[:-500], "damaged|not a picture"),
    "jpeg 2000 cut": (lambda: enc(NOISE, "JPEG2000")[:9000], "damaged"),
    "bomb of 900 megapixels": (lambda: BOMB, "megapixels"),
    "text bomb": (lambda: TEXT_BOMB, "damaged"),
    "huge header": (lambda: png(2**31 - 1, 2**31 - 1), "megapixels"),
    "gif that says 65535": (gif_with_wrong_size, "megapixels"),
    "bmp that says 2 billion": (lambda: bmp_with_size(2**31 - 1, 1), "megapixels"),
    "no width": (lambda: png(0, 10, png_chunk(b"IDAT", zlib.compress(b""))), "damaged|no pixels|not a picture"),
    "no image data": (lambda: png(120, 90), "damaged"),
    "float tiff with NaN": (
        lambda: enc(Image.fromarray(np.full((9, 9), np.nan, np.float32)), "TIFF"),
        "not numbers",
    ),
    "float tiff with infinity": (
        lambda: enc(Image.fromarray(np.full((9, 9), np.inf, np.float32)), "TIFF"),
        "not numbers",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_a_whole_photo_is_refused_with_a_reason(case: str) -> None:
    make, reason = REFUSED[case]
    with pytest.raises(PhotoError, match=reason) as caught:
        photo_from_bytes(make(), "holiday.jpg")
    assert str(caught.value).startswith("holiday.jpg ") or "holiday.jpg" in str(caught.value)
    assert caught.value.hint


def exif_orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


#: What is odd but whole: bytes, the picture that must come out, and whether a note must say something.
ODD: dict[str, tuple[Callable[[], bytes], Image.Image, bool]] = {
    "one pixel": (lambda: enc(Image.new("RGB", (1, 1), (9, 8, 7)), "PNG"), Image.new("RGB", (1, 1), (9, 8, 7)), False),
    "1 x 5000": (lambda: enc(Image.new("L", (1, 5000), 77), "PNG"), Image.new("L", (1, 5000), 77), False),
    "5000 x 1": (lambda: enc(Image.new("L", (5000, 1), 77), "TIFF"), Image.new("L", (5000, 1), 77), False),
    "garbage after the end": (lambda: enc(NOISE, "PNG") + GARBAGE[:5000], NOISE, False),
    "corrupt exif": (lambda: enc(NOISE, "PNG", exif=b"Exif\0\0no TIFF header" + GARBAGE[:300]), NOISE, True),
    "exif cut short": (lambda: enc(NOISE, "PNG", exif=exif_orientation(6).tobytes()[:20]), NOISE, False),
    "orientation 9": (lambda: enc(NOISE, "PNG", exif=exif_orientation(9)), NOISE, False),
    "orientation 0": (lambda: enc(NOISE, "PNG", exif=exif_orientation(0)), NOISE, False),
    "broken profile": (lambda: enc(NOISE, "PNG", icc_profile=b"not a profile"), NOISE, True),
    "random profile": (lambda: enc(NOISE, "PNG", icc_profile=GARBAGE[:3000]), NOISE, True),
    "profile of another colour space": (
        lambda: enc(SMOOTH.convert("L"), "PNG", icc_profile=_srgb()),
        SMOOTH.convert("L"),
        True,
    ),
    "tiff whose pages loop": (looping_tiff, SMOOTH, False),
    "interlaced 16-bit grey": (
        lambda: enc(Image.fromarray(np.asarray(SMOOTH.convert("L")).astype(np.uint16) * 257), "PNG"),
        SMOOTH.convert("L"),
        False,
    ),
    "fully transparent": (
        lambda: enc(Image.new("RGBA", (20, 20), (1, 2, 3, 0)), "PNG"),
        Image.new("RGB", (20, 20), "white"),
        True,
    ),
    "animation": (
        lambda: enc(SMOOTH, "WEBP", lossless=True, save_all=True, append_images=[NOISE]),
        SMOOTH,
        True,
    ),
}


def _srgb() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("case", ODD)
def test_what_is_odd_but_whole_comes_out_right(case: str) -> None:
    make, truth, noted = ODD[case]
    photo = photo_from_bytes(make(), "odd")
    assert np.array_equal(photo.pixels, np.asarray(truth.convert("RGB")))
    assert bool(photo.notes) == noted, photo.notes


def outcome(data: bytes) -> str:
    try:
        photo = photo_from_bytes(data, "flipped")
    except PhotoError as error:
        return "refused" if error.hint else "refused without a hint"
    right = photo.pixels.dtype == np.uint8 and photo.pixels.ndim == 3 and photo.pixels.shape[2] == 3
    return "picture" if right else "nonsense"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "HEIF", "AVIF", "JPEG2000"])
def test_bytes_changed_anywhere_never_crash(kind: str) -> None:
    """Changed pixels of a JPEG cannot be told from wanted ones; but it is a picture of the right kind, or an error."""
    data = enc(NOISE, kind)
    outcomes = [outcome(flipped(data, float(start), 12)) for start in np.linspace(0, 0.98, 25)]
    assert "refused" in outcomes
    assert set(outcomes) <= {"refused", "picture"}


def test_paths_that_are_no_photo(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path, "is a folder"),
        (tmp_path / "missing.jpg", "There is no file"),
        (tmp_path / "a\0b", "cannot be read"),
        (tmp_path / ("x" * 300 + ".jpg"), "cannot be read|There is no file"),
    ):
        with pytest.raises(PhotoError, match=reason) as caught:
            load_photo(path)
        assert caught.value.hint


@pytest.mark.skipif(os.name == "nt", reason="needs links and pipes as POSIX has them")
def test_links_and_pipes_that_are_no_photo(tmp_path: Path) -> None:
    loop, dangling, pipe = tmp_path / "loop.jpg", tmp_path / "dangling.jpg", tmp_path / "pipe.jpg"
    loop.symlink_to(loop)
    dangling.symlink_to(tmp_path / "gone.jpg")
    os.mkfifo(pipe)
    under_a_file = tmp_path / "file.jpg"
    under_a_file.write_bytes(enc(NOISE, "JPEG"))
    for path, reason in (
        (loop, "leads back to itself"),
        (dangling, "There is no file"),
        (pipe, "device or pipe"),  # opening it would wait for ever
        (Path("/dev/zero"), "device or pipe"),
        (under_a_file / "more.jpg", "There is no file"),
    ):
        with pytest.raises(PhotoError, match=reason):
            load_photo(path)


def test_the_finder_takes_whatever_decodes(finder: FaceFinder) -> None:
    for case, (make, _, _) in ODD.items():
        assert finder.find(photo_from_bytes(make(), case)) == []
    assert finder.find(Photo("black", np.zeros((1, 1, 3), np.uint8))) == []
