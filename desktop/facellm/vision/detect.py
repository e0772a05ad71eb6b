"""Where faces are: YuNet (cv2.FaceDetectorYN) over the whole photo at two scales, and a second look at each find.

Measured (``benchmarks/faces.py --compare``, docs/decisions/finding-faces.md): portraits of 16 to 600 px in 1280x720
pictures are all found, with 1 false box in 1,000 pictures without faces. MediaPipe's short-range detector over 240 px
tiles finds 79 % at 24 px, none at 400 px, and 1,491 false boxes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellm.core.command import command
from facellm.core.errors import ModelPartError
from facellm.core.faces import FaceBox, RgbImage
from facellm.vision.warp import apply, cut, invert, upright

#: The fine pass sees the photo enlarged by this: of 300 in-the-wild faces of 24 px it proposes 94 %, without 75 %.
FINE_SCALE = 1.5
#: Longest side in pixels of the fine pass (0.3 s for 2560x1920): in a 4000 px photo, faces from 20 px on.
FINE_LONG_SIDE = 2560
#: The fine pass runs in parts of at most this side: one part of 2560x1920 would keep 300 MB more, for 20 % less time.
TILE_SIDE = 1024
#: Wider faces than this are the coarse pass's: it begins at 96 px of the fine pass's 2560.
TILE_OVERLAP = 128
#: Longest side of the coarse pass. YuNet proposes faces 12 to 640 px wide in what it sees; the fine pass ends at a
#: quarter of the photo's width, the coarse one begins at a twentieth and sees a face that fills the photo.
COARSE_LONG_SIDE = 320
#: Border round the coarse pass, part of its longest side: a face that is cut by the photo's edge.
COARSE_BORDER = 0.125

#: A pass proposes what scores this; low, because the second look decides.
PROPOSE_SCORE = 0.3
#: Proposals looked at again, best first (3 ms each): texture can propose hundreds.
MOST_PROPOSALS = 200

#: The second look: the proposed face scaled to this width in a crop of this side.
LOOK_FACE = 180
LOOK_SIDE = 320
#: Score from which the second look says face: 1 false box in 1,000 pictures, and of 300 in-the-wild faces 93 % at 24 px
#: and 98 % at 48 px. YuNet alone gives 105 false boxes at its score 0.6 (62 %, 96 %), none at 0.85 (23 %, 83 %).
#: At 0.75 here one in-the-wild face in a hundred more, and five times the false boxes.
ACCEPT_SCORE = 0.8

#: Boxes that overlap more (intersection over union) are the same face.
SAME_FACE = 0.3
#: A box whose area lies to this part inside a better one is the same face, too (an eye, half a face).
INSIDE_FACE = 0.7


@dataclass(frozen=True, slots=True)
class Found:
    """A face's box and YuNet's five points, in photo pixels.

    ``points``: ``[5, 2]``, the person's right eye, left eye, nose tip, right and left mouth corner.
    """

    box: FaceBox
    points: NDArray[np.float64]


class FaceDetector:
    """YuNet on photos of any size. Not thread-safe."""

    def __init__(self, yunet: Path) -> None:
        """Load the ONNX file. Raises ``ModelPartError`` when it is missing or not YuNet."""
        import cv2

        # On loading, OpenCV 5 warns that its new engine knows no targets; nobody asked it for one.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        try:
            buffer = np.frombuffer(yunet.read_bytes(), np.uint8)
        except OSError as error:
            raise ModelPartError(
                f"The face detection model could not be read: {error.strerror}.", f"Run: {command('models', 'verify')}"
            ) from error
        try:
            self._net = cv2.FaceDetectorYN.create(
                "onnx", buffer, np.zeros(0, np.uint8), (LOOK_SIDE, LOOK_SIDE), score_threshold=PROPOSE_SCORE
            )
            self._net.detect(np.zeros((LOOK_SIDE, LOOK_SIDE, 3), np.uint8))
        except cv2.error as error:
            raise ModelPartError(
                f"{yunet.name} is not a usable face detection model.", f"Run: {command('models', 'verify')}"
            ) from error

    def find(self, pixels: RgbImage) -> list[Found]:
        """The faces in ``pixels``, best first, each once."""
        proposals = merge(self._propose_fine(pixels) + self._propose_coarse(pixels))
        looks = (self._look_again(pixels, proposal.box) for proposal in proposals[:MOST_PROPOSALS])
        return merge([found for found in looks if found is not None])

    def _propose_fine(self, pixels: RgbImage) -> list[Found]:
        seen = _resized(pixels, min(FINE_SCALE, FINE_LONG_SIDE / max(pixels.shape[:2])))
        ratio = np.array([pixels.shape[1] / seen.shape[1], pixels.shape[0] / seen.shape[0]])
        return [
            _mapped(found, np.array([left, top]), ratio)
            for top, bottom in tile_spans(seen.shape[0])
            for left, right in tile_spans(seen.shape[1])
            for found in self._detect(seen[top:bottom, left:right])
        ]

    def _propose_coarse(self, pixels: RgbImage) -> list[Found]:
        import cv2

        scale = COARSE_LONG_SIDE / max(pixels.shape[:2])
        small = _resized(pixels, scale)
        border = round(COARSE_BORDER * COARSE_LONG_SIDE)
        framed = cv2.copyMakeBorder(small, border, border, border, border, cv2.BORDER_REPLICATE)
        ratio = np.array([pixels.shape[1] / small.shape[1], pixels.shape[0] / small.shape[0]])
        return [
            _mapped(found, np.array([-border, -border]), ratio) for found in self._detect(np.asarray(framed, np.uint8))
        ]

    def _look_again(self, pixels: RgbImage, box: FaceBox) -> Found | None:
        """The same face on an enlarged crop, with a better box; ``None`` where the crop shows none."""
        transform = upright(box.centre, LOOK_FACE / max(box.w, box.h), (LOOK_SIDE / 2, LOOK_SIDE / 2))
        back = invert(transform)
        best: Found | None = None
        for seen in self._detect(cut(pixels, transform, LOOK_SIDE)):
            origin = apply(back, np.array([[seen.box.x, seen.box.y]]))[0]
            size = float(back[0, 0])
            again = FaceBox(float(origin[0]), float(origin[1]), seen.box.w * size, seen.box.h * size, seen.box.score)
            good = again.score >= ACCEPT_SCORE and again.iou(box) > SAME_FACE
            if good and (best is None or again.score > best.box.score):
                best = Found(again, apply(back, seen.points))
        return best

    def _detect(self, pixels: RgbImage) -> list[Found]:
        import cv2

        height, width = pixels.shape[:2]
        self._net.setInputSize((width, height))
        # cv2's stubs do not say so, but no face gives None.
        rows: Any = self._net.detect(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1]
        return [] if rows is None else [_read(row) for row in np.asarray(rows, np.float64)]


def merge(found: list[Found]) -> list[Found]:
    """Each face once: of boxes that overlap the best-scored stays. Best first; equal scores keep left before right."""
    kept: list[Found] = []
    for candidate in sorted(found, key=lambda item: (-item.box.score, item.box.x, item.box.y)):
        if not any(_same(candidate.box, other.box) for other in kept):
            kept.append(candidate)
    return kept


def _same(box: FaceBox, better: FaceBox) -> bool:
    overlap = box.iou(better)
    if overlap > SAME_FACE:
        return True
    area, other = box.w * box.h, better.w * better.h
    shared = overlap * (area + other) / (1 + overlap)
    return shared > INSIDE_FACE * area


def _read(row: NDArray[np.float64]) -> Found:
    """YuNet's row: box (4), five points (10), score."""
    x, y, w, h = (float(value) for value in row[:4])
    return Found(FaceBox(x, y, w, h, float(row[14])), row[4:14].reshape(5, 2))


def tile_spans(length: int) -> list[tuple[int, int]]:
    """Equal parts of at most ``TILE_SIDE`` that cover ``length`` and overlap by ``TILE_OVERLAP`` at least."""
    count = max(1, -(-(length - TILE_OVERLAP) // (TILE_SIDE - TILE_OVERLAP)))
    side = min(length, -(-(length + (count - 1) * TILE_OVERLAP) // count))
    starts = [round(index * (length - side) / max(1, count - 1)) for index in range(count)]
    return [(start, start + side) for start in starts]


def _mapped(found: Found, shift: NDArray[np.integer], ratio: NDArray[np.float64]) -> Found:
    box = found.box
    x, y = (float(value) for value in (np.array([box.x, box.y]) + shift) * ratio)
    size = FaceBox(x, y, box.w * float(ratio[0]), box.h * float(ratio[1]), box.score)
    return Found(size, (found.points + shift) * ratio)


def _resized(pixels: RgbImage, scale: float) -> RgbImage:
    import cv2

    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    if size == (pixels.shape[1], pixels.shape[0]):
        return pixels
    flag = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, size, interpolation=flag), np.uint8)
