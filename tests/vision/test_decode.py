"""Every usual kind of photo comes out as the same upright 8-bit sRGB pixels."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.Image import Transpose

from facellm.core.faces import Photo, RgbImage
from facellm.vision import decode
from facellm.vision.decode import PhotoError, load_photo, photo_from_bytes

#: How a camera that writes this orientation has stored an upright picture.
STORED = {
    1: None,
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}


@pytest.fixture(scope="module")
def picture(person: RgbImage) -> Image.Image:
    """128 x 200, no symmetry: a face, a flag, a helmet."""
    return Image.fromarray(person[40:168, 120:320])


@pytest.fixture(scope="module")
def grey(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("L"))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    if kind == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def difference(photo: Photo, truth: Image.Image | np.ndarray) -> float:
    expected = np.asarray(truth.convert("RGB") if isinstance(truth, Image.Image) else truth)
    if expected.ndim == 2:
        expected = np.repeat(expected[:, :, None], 3, axis=2)
    assert photo.pixels.shape == expected.shape
    assert photo.pixels.dtype == np.uint8
    assert photo.pixels.flags.c_contiguous
    return float(np.abs(photo.pixels.astype(int) - expected).mean())


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("PPM", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 4),
        ("JPEG", {"quality": 95}, 3),
        ("JPEG", {"quality": 95, "progressive": True}, 3),
        ("JPEG2000", {}, 0),
        ("HEIF", {"quality": 95}, 3),
        ("AVIF", {"quality": 95}, 3),
        ("GIF", {}, 6),
    ],
)
def test_format(picture: Image.Image, kind: str, options: dict[str, Any], tolerance: float) -> None:
    photo = photo_from_bytes(encoded(picture, kind, **options), "x")
    assert difference(photo, picture) <= tolerance
    assert photo.notes == ()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_orientation_is_applied_exactly_once(picture: Image.Image, kind: str, orientation: int) -> None:
    turn = STORED[orientation]
    stored = picture.copy() if turn is None else picture.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"quality": 95} if kind != "PNG" else {}
    if kind == "TIFF":
        options = {"tiffinfo": {0x0112: orientation}}
    elif kind == "HEIF":  # its writer turns EXIF's orientation into the container's own, as phones write both
        stored.info["exif"] = exif.tobytes()
    else:
        options["exif"] = exif
    assert difference(photo_from_bytes(encoded(stored, kind, **options), "x"), picture) < 4


def test_sixteen_bit_grey_is_scaled_not_cut_off(grey: np.ndarray) -> None:
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    for kind in ("PNG", "TIFF"):
        assert difference(photo_from_bytes(encoded(deep, kind), "x"), grey) == 0
    pgm = b"P5 200 128 65535\n" + (grey.astype(">u2") * 257).tobytes()
    assert difference(photo_from_bytes(pgm, "x"), grey) == 0


def test_sixteen_bit_colour_keeps_its_upper_eight(person: RgbImage) -> None:
    cv2 = pytest.importorskip("cv2")
    deep = person[40:168, 120:320].astype(np.uint16) * 257
    for suffix in (".png", ".tiff"):
        data = cv2.imencode(suffix, cv2.cvtColor(deep, cv2.COLOR_RGB2BGR))[1].tobytes()
        assert difference(photo_from_bytes(data, "x"), person[40:168, 120:320]) == 0


def test_twelve_bits_are_read_as_twelve(grey: np.ndarray) -> None:
    values = np.zeros((128, 300), np.uint8)  # two 12-bit values in three bytes
    wide = grey.astype(np.uint16) * 16 + (grey >> 4)
    first, second = wide[:, ::2], wide[:, 1::2]
    values[:, ::3], values[:, 1::3], values[:, 2::3] = first >> 4, (first & 15) << 4 | second >> 8, second & 255
    tags = {
        256: 200, 257: 128, 258: 12, 259: 1, 262: 1, 277: 1, 278: 128, 279: values.size,
    }  # fmt: skip
    entries = sorted({**tags, 273: 8 + 2 + 9 * 12 + 4}.items())
    ifd = len(entries).to_bytes(2, "little") + b"".join(
        tag.to_bytes(2, "little") + (4).to_bytes(2, "little") + (1).to_bytes(4, "little") + value.to_bytes(4, "little")
        for tag, value in entries
    )
    data = b"II*\0" + (8).to_bytes(4, "little") + ifd + bytes(4) + values.tobytes()
    assert difference(photo_from_bytes(data, "x"), grey) < 1


def test_white_may_be_zero(grey: np.ndarray) -> None:
    deep = Image.fromarray(65535 - grey.astype(np.uint16) * 257)
    data = encoded(deep, "TIFF", tiffinfo={262: 0})
    if Image.open(io.BytesIO(data)).tag_v2[262] != 0:  # type: ignore[attr-defined]
        pytest.skip("this Pillow does not write the tag")
    assert difference(photo_from_bytes(data, "x"), grey) == 0


@pytest.mark.parametrize(("factor", "noted"), [(1 / 255, False), (1.0, False), (257.0, False), (9000.0, True)])
def test_float_pixels_are_read_by_their_range(grey: np.ndarray, factor: float, noted: bool) -> None:
    full = grey.copy()
    full[0, :2] = (0, 255)
    photo = photo_from_bytes(encoded(Image.fromarray((full * factor).astype(np.float32)), "TIFF"), "x")
    assert difference(photo, full) < 0.01
    assert bool(photo.notes) == noted


def test_alpha_is_laid_on_white_and_said(picture: Image.Image) -> None:
    alpha = np.full((128, 200), 255, np.uint8)
    alpha[:, :50] = 0
    cut = picture.convert("RGBA")
    cut.putalpha(Image.fromarray(alpha))
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        photo = photo_from_bytes(encoded(cut, kind, **options), "x")
        assert (photo.pixels[:, :50] == 255).all()
        assert np.array_equal(photo.pixels[:, 50:], np.asarray(picture)[:, 50:])
        assert photo.notes == ("transparent parts shown white",)
    grey_alpha = picture.convert("LA")
    grey_alpha.putalpha(Image.fromarray(alpha))
    assert (photo_from_bytes(encoded(grey_alpha, "PNG"), "x").pixels[:, :50] == 255).all()


def test_alpha_without_transparency_is_not_mentioned(picture: Image.Image) -> None:
    assert photo_from_bytes(encoded(picture.convert("RGBA"), "PNG"), "x").notes == ()


def test_a_transparent_palette_colour_is_white(picture: Image.Image) -> None:
    few = picture.quantize(8)
    gone = np.asarray(few) == 3
    photo = photo_from_bytes(encoded(few, "PNG", transparency=3), "x")
    assert gone.any()
    assert (photo.pixels[gone] == 255).all()
    assert np.array_equal(photo.pixels[~gone], np.asarray(few.convert("RGB"))[~gone])


def test_cmyk_and_one_bit_and_lab(picture: Image.Image) -> None:
    assert difference(photo_from_bytes(encoded(picture.convert("CMYK"), "JPEG", quality=95), "x"), picture) < 3
    bits = picture.convert("1")
    assert difference(photo_from_bytes(encoded(bits, "PNG"), "x"), bits) == 0
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    in_lab = ImageCms.profileToProfile(picture, srgb, lab, outputMode="LAB")
    assert in_lab is not None
    assert difference(photo_from_bytes(encoded(in_lab, "TIFF"), "x"), picture) < 1


def swapped_profile() -> bytes:
    """sRGB's profile with red and blue exchanged: a colour space of its own, easy to tell from sRGB."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(data[128:132], "big")
    at = {bytes(data[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    for one, other in ((b"rXYZ", b"bXYZ"),):
        a, b = at[one], at[other]
        data[a + 4 : a + 12], data[b + 4 : b + 12] = data[b + 4 : b + 12], data[a + 4 : a + 12]
    return bytes(data).replace("sRGB".encode("utf-16-be"), "Test".encode("utf-16-be")).replace(b"sRGB", b"Test")


def test_a_colour_profile_is_converted_to_srgb(picture: Image.Image) -> None:
    stored = Image.merge("RGB", picture.split()[::-1])
    profile = swapped_profile()
    for kind, options, tolerance in (("PNG", {}, 2), ("JPEG", {"quality": 95}, 5), ("WEBP", {"lossless": True}, 2)):
        photo = photo_from_bytes(encoded(stored, kind, icc_profile=profile, **options), "x")
        assert difference(photo, picture) < tolerance
    cut = stored.convert("RGBA")
    cut.putpixel((0, 0), (0, 0, 0, 0))
    photo = photo_from_bytes(encoded(cut, "PNG", icc_profile=profile), "x")
    assert (photo.pixels[0, 0] == 255).all()
    assert np.abs(photo.pixels[1:].astype(int) - np.asarray(picture)[1:]).mean() < 2


def test_an_srgb_profile_changes_nothing(picture: Image.Image) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert difference(photo_from_bytes(encoded(picture, "PNG", icc_profile=profile), "x"), picture) == 0


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_several_frames_the_first_is_taken_and_said(picture: Image.Image, kind: str) -> None:
    second = Image.new("RGB", picture.size, "red")
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(picture, kind, save_all=True, append_images=[second], **options)
    photo = photo_from_bytes(data, "x")
    assert difference(photo, picture) < 6
    assert photo.notes == ("first of 2 pictures in the file",)


def test_a_file_is_named_as_the_user_named_it(picture: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "ünïcode name.jpg"
    path.write_bytes(encoded(picture, "JPEG"))
    photo = load_photo(path)
    assert (photo.name, photo.width, photo.height) == (str(path), 200, 128)


def test_the_extension_does_not_matter(picture: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "photo.txt"
    path.write_bytes(encoded(picture, "PNG"))
    assert difference(load_photo(path), picture) == 0


def test_more_pixels_than_allowed_are_refused_before_decoding(
    picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded(picture, "PNG")[:200]  # only the header is there: decoding would say "truncated"
    monkeypatch.setattr(decode, "MAX_PIXELS", 200 * 128 - 1)
    with pytest.raises(PhotoError, match="too large: 200 x 128"):
        photo_from_bytes(data, "x")


def test_a_file_larger_than_allowed_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.jpg"
    with path.open("wb") as file:
        os.truncate(file.fileno(), decode.MAX_BYTES + 1)  # sparse: takes no room
    with pytest.raises(PhotoError, match="1000 MB") as caught:
        load_photo(path)
    assert caught.value.hint


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs permissions as POSIX has them")
def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "secret.jpg"
    path.write_bytes(b"x")
    path.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)  # root may read everything
    try:
        with pytest.raises(PhotoError, match="may not be read"):
            load_photo(path)
    finally:
        if root:
            os.seteuid(0)
