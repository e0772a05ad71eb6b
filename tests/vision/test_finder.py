"""Faces come from left to right, with landmarks, pose and expression; the finder survives threads and close."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.scenes import Portrait, collage
from facellm.core.errors import ModelPartError
from facellm.core.faces import Photo, RgbImage
from facellm.vision.finder import FaceFinder, FaceModels


def photo(pixels: RgbImage) -> Photo:
    return Photo("test", np.ascontiguousarray(pixels))


def test_the_astronaut_is_one_smiling_face_with_everything_measured(finder: FaceFinder, person: RgbImage) -> None:
    (face,) = finder.find(photo(person))
    assert face.label == "A"
    assert face.box.centre == pytest.approx((224, 120), abs=8)
    assert face.box.score > 0.9
    assert face.landmarks is not None
    assert face.landmarks.shape == (478, 3)
    assert face.blendshapes is not None
    assert len(face.blendshapes) == 52
    facts = face.facts
    assert facts.width_px == pytest.approx(93, abs=5)
    assert facts.smile is not None
    assert facts.smile > 0.7
    assert facts.eyes_open is not None
    assert facts.eyes_open > 0.8
    assert facts.mouth_open is not None
    assert facts.mouth_open < 0.2


def test_points_are_where_their_names_say(finder: FaceFinder, person: RgbImage) -> None:
    (face,) = finder.find(photo(person))
    right_eye, left_eye, nose, mouth, right_ear, left_ear = face.points
    assert right_ear[0] < right_eye[0] < nose[0] < left_eye[0] < left_ear[0]  # her right is the viewer's left
    assert max(right_eye[1], left_eye[1]) < nose[1] < mouth[1]
    assert np.hypot(*(left_eye - right_eye)) == pytest.approx(42, abs=6)


def test_mirroring_turns_yaw_and_roll_round_and_nothing_else(finder: FaceFinder, portraits: list[Portrait]) -> None:
    turned = 0
    for portrait in portraits[::8]:
        (face, *_), (mirrored, *_) = (finder.find(photo(p)) for p in (portrait.pixels, portrait.pixels[:, ::-1]))
        one, other = face.facts, mirrored.facts
        assert one.yaw is not None and one.pitch is not None and one.roll is not None
        assert other.yaw is not None and other.pitch is not None and other.roll is not None
        assert one.yaw == pytest.approx(-other.yaw, abs=6)
        assert one.roll == pytest.approx(-other.roll, abs=4)
        assert one.pitch == pytest.approx(other.pitch, abs=6)
        turned += abs(one.yaw) > 6
    assert turned >= 3  # the comparison says something only where heads are turned


def test_a_nose_to_the_right_is_yaw_to_the_right(finder: FaceFinder, portraits: list[Portrait]) -> None:
    seen = 0
    for portrait in portraits[::4]:
        for face in finder.find(photo(portrait.pixels)):
            yaw, points = face.facts.yaw, face.points
            if yaw is None or abs(yaw) < 12:
                continue
            between_ears = (points[4, 0] + points[5, 0]) / 2
            assert (points[2, 0] > between_ears) == (yaw > 0)
            seen += 1
    assert seen >= 3


@pytest.mark.parametrize("angle", [-30, -15, 15, 30])
def test_roll_is_clockwise_as_seen(finder: FaceFinder, person: RgbImage, angle: int) -> None:
    (face,) = finder.find(photo(person))
    turn = cv2.getRotationMatrix2D((224, 120), -angle, 1)  # cv2 counts counter-clockwise
    tilted = np.asarray(cv2.warpAffine(person, turn, (512, 512), borderMode=cv2.BORDER_REPLICATE), np.uint8)
    (other,) = finder.find(photo(tilted))
    assert face.facts.roll is not None and other.facts.roll is not None
    assert other.facts.roll - face.facts.roll == pytest.approx(angle, abs=5)


def test_labels_run_from_left_to_right_and_stay_the_same(finder: FaceFinder, portraits: list[Portrait]) -> None:
    pixels, truth = collage(portraits[::10])
    faces = finder.find(photo(pixels))
    assert [face.label for face in faces] == [chr(ord("A") + index) for index in range(len(truth))]
    centres = [face.box.centre for face in faces]
    assert centres == sorted(centres)
    assert all(face.landmarks is not None for face in faces)
    for face in faces:
        assert face.landmarks is not None
        low, high = face.landmarks[:, :2].min(0), face.landmarks[:, :2].max(0)
        assert face.box.centre == pytest.approx(tuple((low + high) / 2), abs=face.box.w / 3)
    assert finder.find(photo(pixels)) == faces


def test_landmarks_of_neighbours_are_not_mixed_up(finder: FaceFinder, person: RgbImage) -> None:
    head = person[20:230, 160:300]  # 140 px a person: neighbours lie well inside each other's crops
    faces = finder.find(photo(np.tile(head, (1, 5, 1))))
    assert len(faces) == 5
    middles = [float(face.landmarks[:, 0].mean()) for face in faces if face.landmarks is not None]
    assert np.diff(middles) == pytest.approx([140] * 4, abs=10)


def test_no_face_is_an_empty_list(finder: FaceFinder) -> None:
    assert finder.find(photo(np.full((300, 400, 3), 99, np.uint8))) == []


def test_threads_share_one_finder(finder: FaceFinder, person: RgbImage) -> None:
    pictures = [photo(person), photo(person[:, ::-1]), photo(person[:220, 100:400]), photo(person[:10])]
    alone = [finder.find(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(finder.find, pictures * 5))
    assert together == alone * 5


def test_a_crop_is_measured_as_it_is(finder: FaceFinder, person: RgbImage) -> None:
    crop = np.ascontiguousarray(person[52:202, 149:299])
    facts, shapes = finder.measure_crop(np.asarray(cv2.resize(crop, (224, 224)), np.uint8))
    assert shapes is not None
    assert shapes["mouthSmileLeft"] > 0.5
    assert facts.yaw is not None
    assert facts.width_px == pytest.approx(224 / 1.268, abs=1)
    plain, nothing = finder.measure_crop(np.full((224, 224, 3), 51, np.uint8))
    assert nothing is None
    assert (plain.yaw, plain.smile, plain.contrast, plain.sharpness) == (None, None, 0.0, 0.0)
    assert plain.brightness == pytest.approx(0.2)


def test_after_close_there_is_an_error_not_an_empty_answer(models: FaceModels, person: RgbImage) -> None:
    finder = FaceFinder(models)
    assert len(finder.find(photo(person))) == 1
    finder.close()
    finder.close()
    with pytest.raises(RuntimeError, match="closed"):
        finder.find(photo(person))


def test_missing_and_wrong_model_files_are_errors(models: FaceModels, tmp_path: Path) -> None:
    with pytest.raises(ModelPartError, match="could not be read"):
        FaceFinder(FaceModels(tmp_path / "none.task", models.yunet))
    for content in (b"", b"PK\x03\x04 not a task", models.landmarker.read_bytes()[:100_000]):
        wrong = tmp_path / "wrong.task"
        wrong.write_bytes(content)
        with pytest.raises(ModelPartError, match="not a usable"):
            FaceFinder(FaceModels(wrong, models.yunet))


def test_a_forgotten_finder_does_not_hang_the_program(models: FaceModels, child_env: dict[str, str]) -> None:
    """MediaPipe's own objects can deadlock when they are collected unclosed."""
    code = (
        "import gc, numpy as np\n"
        "from pathlib import Path\n"
        "from facellm.vision.finder import FaceFinder, FaceModels\n"
        "for _ in range(3):\n"
        f"    FaceFinder(FaceModels(Path({str(models.landmarker)!r}), Path({str(models.yunet)!r})))\n"
        "    gc.collect()\n"
        "print('end')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=child_env)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
