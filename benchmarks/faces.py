"""How well and how fast faces are found, on pictures whose faces are known. The last line is JSON.

    python3 run.py python benchmarks/faces.py [--quick] [--compare]

``--compare`` measures what was not chosen, too: MediaPipe's short-range detector over tiles, and one YuNet pass.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from scenes import Portrait, collage, match, read_portraits, scatter, skimage_picture, without_faces

from facellm.core.faces import FaceBox, Photo, RgbImage
from facellm.models.store import AssetStore
from facellm.vision.detect import FaceDetector
from facellm.vision.finder import FaceFinder, FaceModels

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SIZES = (16, 20, 24, 28, 32, 40, 64, 100, 200, 400, 600)

Finder = Callable[[RgbImage], list[FaceBox]]


def main() -> int:
    """Measure, print a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="40 portraits and 100 pictures without faces")
    parser.add_argument("--compare", action="store_true", help="also measure the detectors that were not chosen")
    options = parser.parse_args()
    folder = DATA / "portraits" / "synthetic"
    if not folder.is_dir():
        print(f"the portraits are not on this machine: {folder}", file=sys.stderr)
        return 1
    store = AssetStore()
    models = FaceModels(store.ensure("face-landmarker"), store.ensure("yunet"))
    portraits = read_portraits(folder, models.landmarker, 40 if options.quick else 200)
    blank = 100 if options.quick else 1000

    detector = FaceDetector(models.yunet)
    result: dict[str, object] = {"product": measured(lambda p: [f.box for f in detector.find(p)], portraits, blank)}
    if options.compare:
        for name, finder in alternatives(models).items():
            print(f"-- {name}")
            result[name] = measured(finder, portraits, blank)
    with FaceFinder(models) as finder:
        result |= whole_way(finder, portraits)
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(result))
    return 0


def measured(find: Finder, portraits: list[Portrait], blank: int) -> dict[str, object]:
    """Part found by face width in 1280x720, extra boxes there, false boxes in ``blank`` pictures, CPU ms a picture."""
    recall: dict[str, float] = {}
    extra = pictures = 0
    started = time.process_time()
    for size in SIZES:
        hits = faces = 0
        for pixels, truth in scatter(portraits if size <= 100 else portraits[::4], size):
            found, wrong = match(find(pixels), truth)
            hits, faces, extra, pictures = hits + found, faces + len(truth), extra + wrong, pictures + 1
        recall[str(size)] = round(hits / faces, 4)
        print(f"face {size:4d} px: found {hits} of {faces} = {hits / faces:.1%}", flush=True)
    cpu_ms = (time.process_time() - started) / pictures * 1000
    per_picture = [(name, len(find(pixels))) for name, pixels in without_faces(blank)]
    false_boxes = sum(count for _, count in per_picture)
    print(f"extra boxes beside the faces: {extra} in {pictures} pictures; {cpu_ms:.0f} ms CPU each")
    print(f"false boxes: {false_boxes} in {blank} pictures without faces", [n for n, c in per_picture if c])
    return {
        "recall": recall,
        "extra_boxes": extra,
        "pictures": pictures,
        "false_boxes_per_100": 100 * false_boxes / blank,
        "cpu_ms": round(cpu_ms),
    }


def whole_way(finder: FaceFinder, portraits: list[Portrait]) -> dict[str, object]:
    """Detection, mesh, pose and crop together: a collage, and wall time for usual sizes."""
    sheet, truth = collage(portraits)
    faces = finder.find(Photo("collage", sheet))
    hits, extra = match([face.box for face in faces], truth)
    meshes = sum(face.landmarks is not None for face in faces)
    print(f"collage: {hits} of {len(truth)}, {extra} extra, {meshes} with a mesh")
    one = next(scatter(portraits[:1], 160))[0]
    large = np.asarray(cv2.resize(one, (4000, 3000), interpolation=cv2.INTER_CUBIC), np.uint8)
    seconds = {
        "720p_first_s": timed(finder, one, 1),
        "720p_s": timed(finder, one, 5),
        "12mp_first_s": timed(finder, large, 1),
        "12mp_s": timed(finder, large, 3),
        "collage_s": timed(finder, sheet, 3),
        "no_face_720p_s": timed(finder, np.asarray(cv2.resize(skimage_picture("grass"), (1280, 720)), np.uint8), 3),
    }
    print(" ".join(f"{name}={value:.3f}" for name, value in seconds.items()))
    return {"collage_found": hits, "collage_extra": extra, "collage_meshes": meshes, **seconds}


def timed(finder: FaceFinder, pixels: RgbImage, times: int) -> float:
    """Median wall seconds."""
    runs = []
    for _ in range(times):
        start = time.perf_counter()
        finder.find(Photo("timed", pixels))
        runs.append(time.perf_counter() - start)
    return round(median(runs), 4)


def alternatives(models: FaceModels) -> dict[str, Finder]:
    """One YuNet pass at two score thresholds, and MediaPipe's short-range detector on the frame and on tiles."""
    from mediapipe import Image, ImageFormat
    from mediapipe.tasks.python import BaseOptions, vision

    buffer = zipfile.ZipFile(models.landmarker).read("face_detector.tflite")
    options = vision.FaceDetectorOptions(base_options=BaseOptions(model_asset_buffer=buffer))
    short = vision.FaceDetector.create_from_options(options)

    def short_range(pixels: RgbImage) -> list[FaceBox]:
        found = short.detect(Image(ImageFormat.SRGB, np.ascontiguousarray(pixels))).detections
        boxes = [(d.bounding_box, d.categories[0].score) for d in found]
        return [FaceBox(b.origin_x, b.origin_y, b.width, b.height, score) for b, score in boxes]

    def tiled(side: int) -> Finder:
        return lambda pixels: distinct(
            [
                FaceBox(box.x + x, box.y + y, box.w, box.h, box.score)
                for x, y in corners(pixels, side)
                for box in short_range(pixels[y : y + side, x : x + side])
            ]
        )

    def yunet(score: float) -> Finder:
        net = cv2.FaceDetectorYN.create(str(models.yunet), "", (320, 320), score_threshold=score)

        def find(pixels: RgbImage) -> list[FaceBox]:
            net.setInputSize((pixels.shape[1], pixels.shape[0]))
            rows = net.detect(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1]
            return [] if rows is None else [FaceBox(*map(float, row[:4]), score=float(row[14])) for row in rows]

        return find

    return {
        "yunet once, score 0.6": yunet(0.6),
        "yunet once, score 0.85": yunet(0.85),
        "short range, frame": short_range,
        "short range, tiles 360": tiled(360),
        "short range, tiles 240": tiled(240),
    }


def corners(pixels: RgbImage, side: int) -> list[tuple[int, int]]:
    """Upper left corners of tiles that overlap by half."""
    height, width = pixels.shape[:2]

    def along(length: int) -> list[int]:
        count = max(1, -(-2 * (length - side) // side) + 1)
        return [int(v) for v in np.linspace(0, max(0, length - side), count)]

    return [(x, y) for y in along(height) for x in along(width)]


def distinct(boxes: list[FaceBox]) -> list[FaceBox]:
    """Non-maximum suppression."""
    kept: list[FaceBox] = []
    for box in sorted(boxes, key=lambda b: -b.score):
        if all(box.iou(other) < 0.3 for other in kept):
            kept.append(box)
    return kept


if __name__ == "__main__":
    raise SystemExit(main())
