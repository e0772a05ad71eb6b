"""Any of Pillow's pixel types to 8-bit sRGB: deep pixels scaled, alpha laid on white, colour profiles applied."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facellm.core.faces import RgbImage

if TYPE_CHECKING:
    from PIL.Image import Image

Notes = tuple[str, ...]

#: What transparent pixels show. White is what viewers, browsers and paper show behind a cut-out portrait, so the model
#: sees what the user sees; the background of a face is also most often light.
BEHIND_ALPHA = (255, 255, 255)

#: Pillow's types for one number per pixel with more than 8 bits.
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
#: TIFF tags: bits per sample, and how numbers become light (0: white is zero).
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def to_rgb(image: Image) -> tuple[RgbImage, Notes]:
    """Pixels ``[H, W, 3]`` uint8 sRGB of a loaded image, and what had to be decided on the way.

    Raises ``ValueError`` for pixels that are not numbers.
    """
    if image.mode in _DEEP:
        return _from_deep(np.asarray(image), image)
    alpha = _alpha(image)
    colour, notes = _srgb(image)
    if alpha is None:
        return np.array(colour, np.uint8), notes
    from PIL import Image as Images

    behind = Images.new("RGB", colour.size, BEHIND_ALPHA)
    behind.paste(colour, mask=alpha)
    return np.array(behind, np.uint8), (*notes, "transparent parts shown white")


def _from_deep(values: NDArray[Any], image: Image) -> tuple[RgbImage, Notes]:
    """Grey of 12 to 32 bits or float, scaled by its type's range: nothing is cut off at 255."""
    if not np.isfinite(values).all():
        raise ValueError("it holds values that are not numbers")
    low, high = float(values.min()), float(values.max())
    top, notes = _white(image, low, high)
    base = min(low, 0.0)
    grey = np.rint((values.astype(np.float32) - base) * (255.0 / (top - base)))
    if _tiff_tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey  # Pillow turns 8-bit pixels round itself, deep ones not
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2), notes


def _white(image: Image, low: float, high: float) -> tuple[float, Notes]:
    """The value that is white: by the file where it says so, else the smallest usual range that holds the pixels."""
    if image.mode.startswith("I;16"):
        return (4095.0 if _tiff_tag(image, _BITS) == (12,) else 65535.0), ()
    if image.format == "PPM":
        return (65535.0 if image.mode == "I" else max(high, 1.0)), ()
    for top in (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0):
        if low >= 0 and high <= top:
            return top, ()
    return max(high, low + 1.0), ("brightness scaled: the file does not say what is white",)


def _tiff_tag(image: Image, tag: int) -> object:
    return getattr(image, "tag_v2", {}).get(tag)


def _alpha(image: Image) -> Image | None:
    """The alpha plane where anything is transparent."""
    if not image.has_transparency_data:
        return None
    plane = image.convert("RGBA").getchannel("A")
    return plane if plane.getextrema() != (255, 255) else None


def _srgb(image: Image) -> tuple[Image, Notes]:
    """The colours without alpha as sRGB, by the file's colour profile where it has one."""
    if image.mode == "LAB":
        return _from_lab(image), ()
    plain = image if image.mode in ("RGB", "L", "CMYK") else image.convert("RGB")
    if image.mode in ("LA", "La", "1"):
        plain = image.convert("L")
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile:
        return plain.convert("RGB"), ()
    converted = _by_profile(plain, profile)
    if converted is None:
        return plain.convert("RGB"), ("unusable colour profile ignored",)
    return converted, ()


def _from_lab(image: Image) -> Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if converted is None:
        raise ValueError("its Lab colours cannot be converted")
    return converted


def _by_profile(image: Image, profile: bytes) -> Image | None:
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "RGB" and "sRGB" in ImageCms.getProfileDescription(source):
            return image  # by far the most usual, and its conversion to itself takes 0.3 s for 12 megapixels
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
