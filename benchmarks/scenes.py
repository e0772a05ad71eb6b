"""Pictures with known faces, and pictures with none, made from public ones. Used by the benchmark and the tests.

Faces: portraits of people who do not exist (CC0, ``../shared/data/portraits/synthetic``). Pictures without
faces: those of scikit-image's wheel, cut, turned and scaled. Truth boxes come from the face mesh, not from the
detector under test.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from facellm.core.faces import FaceBox, RgbImage
from facellm.vision.mesh import FaceMesh

WIDTH, HEIGHT = 1280, 720

#: scikit-image's pictures that show no face (the cat and the coins are there on purpose: they are hard).
FACELESS = (
    "brick", "cell", "chelsea", "chessboard_GRAY", "coffee", "coins", "color", "grass", "gravel", "horse",
    "hubble_deep_field", "ihc", "logo", "microaneurysms", "moon", "motorcycle_left", "page", "phantom", "retina",
    "rocket", "text", "clock_motion",
)  # fmt: skip
#: What portraits are pasted on, blurred as behind a person in focus, or as it is.
BACKGROUNDS = ("rocket", "coffee", "motorcycle_left", "retina", "ihc", "gravel")
#: A coin of the coins picture shows a face, as does the cat to some: not counted as false.
_IOU = 0.4


@dataclass(frozen=True)
class Portrait:
    """One person; ``box`` is the bounding box of the face mesh in pixels."""

    pixels: RgbImage
    box: FaceBox


def read_rgb(path: Path) -> RgbImage:
    """Decode with cv2: this file must not depend on the decoder under test."""
    pixels = cv2.imread(str(path))
    if pixels is None:
        raise FileNotFoundError(path)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def read_portraits(folder: Path, landmarker: Path, count: int = 200) -> list[Portrait]:
    """``count`` of the synthetic portraits, spread over the set, with their mesh boxes."""
    files = sorted(folder.glob("*.jpg"))
    mesh, portraits = FaceMesh(landmarker), []
    for file in files[:: max(1, len(files) // count)][:count]:
        pixels = read_rgb(file)
        found = mesh.measure(pixels)
        if found is None:
            raise ValueError(f"no mesh in {file}")
        low, high = found.landmarks[:, :2].min(0), found.landmarks[:, :2].max(0)
        portraits.append(Portrait(pixels, FaceBox(float(low[0]), float(low[1]), *map(float, high - low), score=1.0)))
    mesh.close()
    return portraits


def skimage_picture(name: str) -> RgbImage:
    """One picture of scikit-image's wheel, RGB."""
    import skimage.data

    folder = Path(skimage.data.__file__).parent
    return read_rgb(next(path for path in sorted(folder.glob(f"{name}.*")) if path.suffix in (".png", ".jpg")))


def scatter(portraits: list[Portrait], width: float, seed: int = 1) -> Iterator[tuple[RgbImage, list[FaceBox]]]:
    """1280x720 pictures with every portrait once, its face ``width`` pixels wide, and the truth boxes.

    Every other background is blurred; portraits do not overlap and are cut only where the picture ends.
    """
    rng = random.Random(seed)
    backgrounds = [_background(name, blurred) for name in BACKGROUNDS for blurred in (True, False)]
    waiting = list(portraits)
    rng.shuffle(waiting)
    while waiting:
        canvas = rng.choice(backgrounds).copy()
        truth: list[FaceBox] = []
        used: list[tuple[int, int, int, int]] = []
        while waiting and len(truth) < 10:
            small, box = _scaled(waiting[-1], width)
            place = _free_place(rng, used, small.shape[1], small.shape[0])
            if place is None:
                break
            x, y = place
            canvas[y : y + small.shape[0], x : x + small.shape[1]] = small
            used.append((x, y, small.shape[1], small.shape[0]))
            truth.append(FaceBox(box.x + x, box.y + y, box.w, box.h, 1.0))
            waiting.pop()
        yield canvas, truth


def collage(portraits: list[Portrait], columns: int = 5, rows: int = 4) -> tuple[RgbImage, list[FaceBox]]:
    """A 1280x1024 sheet of whole portraits of different sizes."""
    sheet = np.full((1024, 1280, 3), 90, np.uint8)
    truth = []
    cell_w, cell_h = 1280 // columns, 1024 // rows
    for index, portrait in enumerate(portraits[: columns * rows]):
        row, column = divmod(index, columns)
        side = min(cell_w, cell_h) - 12 - 17 * (index % 5)
        scale = side / max(portrait.pixels.shape[:2])
        small = cv2.resize(portrait.pixels, (side, side), interpolation=cv2.INTER_AREA)
        x, y = column * cell_w + 6, row * cell_h + 6
        sheet[y : y + side, x : x + side] = small
        box = portrait.box
        truth.append(FaceBox(x + box.x * scale, y + box.y * scale, box.w * scale, box.h * scale, 1.0))
    return sheet, truth


def without_faces(count: int, seed: int = 3) -> Iterator[tuple[str, RgbImage]]:
    """``count`` pictures without faces and their names: first the whole ones, then cuts, mirrored, turned, scaled."""
    rng = random.Random(seed)
    sources = [(name, skimage_picture(name)) for name in FACELESS]
    yield from sources[:count]
    for _ in range(count - len(sources)):
        name, pixels = rng.choice(sources)
        height, width = pixels.shape[:2]
        w, h = max(16, int(width * rng.uniform(0.3, 1))), max(16, int(height * rng.uniform(0.3, 1)))
        x, y = rng.randint(0, width - w), rng.randint(0, height - h)
        part = pixels[y : y + h, x : x + w]
        if rng.random() < 0.5:
            part = part[:, ::-1]
        part = np.ascontiguousarray(np.rot90(part, rng.choice((0, 0, 0, 1, 2))))
        scale = rng.choice((320, 640, 1280, 1280, 1920)) / max(part.shape[:2])
        flag = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
        yield name, np.asarray(cv2.resize(part, None, fx=scale, fy=scale, interpolation=flag), np.uint8)


def match(found: list[FaceBox], truth: list[FaceBox]) -> tuple[int, int]:
    """How many of ``truth`` were found, and how many of ``found`` are something else (or the same face again)."""
    free, hits = list(found), 0
    for box in truth:
        best = max(free, key=box.iou, default=None)
        if best is not None and box.iou(best) > _IOU:
            free.remove(best)
            hits += 1
    return hits, len(free)


def _background(name: str, blurred: bool) -> RgbImage:
    pixels = cv2.resize(skimage_picture(name), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), 6) if blurred else pixels, np.uint8)


def _scaled(portrait: Portrait, width: float) -> tuple[RgbImage, FaceBox]:
    """The portrait with its face ``width`` wide; what does not fit the canvas is cut off round the face."""
    scale = width / portrait.box.w
    flag = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = np.asarray(cv2.resize(portrait.pixels, None, fx=scale, fy=scale, interpolation=flag), np.uint8)
    box = FaceBox(*(value * scale for value in (portrait.box.x, portrait.box.y, portrait.box.w, portrait.box.h)), 1.0)
    left = max(0, min(int(box.centre[0] - WIDTH / 2), small.shape[1] - WIDTH))
    top = max(0, min(int(box.centre[1] - HEIGHT / 2), small.shape[0] - HEIGHT))
    part = small[top : top + HEIGHT, left : left + WIDTH]
    return part, FaceBox(box.x - left, box.y - top, box.w, box.h, 1.0)


def _free_place(
    rng: random.Random, used: list[tuple[int, int, int, int]], width: int, height: int
) -> tuple[int, int] | None:
    for _ in range(200):
        x, y = rng.randint(0, WIDTH - width), rng.randint(0, HEIGHT - height)
        if all(x + width <= u or u + w <= x or y + height <= v or v + h <= y for u, v, w, h in used):
            return x, y
    return None
