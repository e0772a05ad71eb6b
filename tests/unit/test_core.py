"""The nouns: faces and letters, boxes, aspects, errors that travel between processes, the canary."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facellm.core.ask import Answer, ChoiceProbability, Question, Timings, Turn
from facellm.core.aspects import ASPECTS, aspect
from facellm.core.canary import waves
from facellm.core.errors import FaceLLMError, ModelPartError
from facellm.core.faces import Face, FaceBox, Facts, Photo, face_label, next_label
from facellm.core.package import ModelPackage


@pytest.mark.parametrize(("index", "label"), [(0, "A"), (25, "Z"), (26, "AA"), (27, "AB"), (701, "ZZ"), (702, "AAA")])
def test_face_labels_count_like_columns_of_a_table(index: int, label: str) -> None:
    assert face_label(index) == label


def test_a_thousand_faces_have_a_thousand_labels() -> None:
    assert len({face_label(index) for index in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("taken", "label"), [("", "A"), ("A", "B"), ("A C", "D"), ("Z", "AA"), ("A AZ", "BA"), ("Y AA Z", "AB")]
)
def test_the_next_label_comes_after_all_that_are_taken(taken: str, label: str) -> None:
    assert next_label(taken.split()) == label


def test_iou_of_equal_half_and_apart() -> None:
    box = FaceBox(10, 10, 20, 20, 0.9)
    assert box.iou(box) == 1.0
    assert box.iou(FaceBox(20, 10, 20, 20, 0.5)) == pytest.approx(1 / 3)
    assert box.iou(FaceBox(30, 10, 20, 20, 0.5)) == 0.0
    assert box.centre == (20, 20)


def test_a_photo_knows_its_size() -> None:
    photo = Photo("x", np.zeros((3, 7, 3), np.uint8))
    assert (photo.width, photo.height) == (7, 3)


def test_faces_compare_without_their_arrays() -> None:
    facts = Facts(20, 0.5, 0.1, 30)
    one, other = (
        Face("A", FaceBox(0, 0, 1, 1, 1), facts, np.full((6, 2), value, np.float32)) for value in (np.nan, 2.0)
    )
    assert one == other


def test_the_eight_aspects_have_keys_titles_and_different_questions() -> None:
    assert len(ASPECTS) == 8
    assert len({item.key for item in ASPECTS}) == len({item.question for item in ASPECTS}) == 8
    assert all(item.title and item.question.endswith((".", "?")) for item in ASPECTS)
    assert aspect("pose").title == "Pose"
    with pytest.raises(KeyError):
        aspect("race")


@pytest.mark.parametrize("kind", [FaceLLMError, ModelPartError])
def test_an_error_keeps_its_sentence_and_hint_across_processes(kind: type[FaceLLMError]) -> None:
    error = pickle.loads(pickle.dumps(kind("It broke.", "Mend it.")))
    assert (type(error), str(error), error.hint) == (kind, "It broke.", "Mend it.")


@pytest.mark.parametrize(
    "value",
    [
        Question("Hat?", ("yes", "no")),
        Answer("yes", Timings(0.3, 0.5, 1), choices=(ChoiceProbability("yes", 0.9),), note="n"),
        Turn("Hat?", "No."),
        ModelPackage("nano", Path("a"), Path("b"), 224),
    ],
)
def test_what_is_sent_to_the_engine_is_frozen_and_picklable(value: Any) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
    with pytest.raises(FrozenInstanceError):
        setattr(value, fields(value)[0].name, "x")


def test_the_canary_is_the_same_picture_everywhere() -> None:
    picture = waves(224)
    assert picture.shape == (224, 224, 3)
    assert picture.dtype == np.uint8
    assert picture.flags["C_CONTIGUOUS"]
    # Means and three pixels, not a hash: libm may differ in the last bit and move one value by one.
    assert np.allclose(picture.mean((0, 1)), CANARY_MEANS, atol=0.01)
    assert np.abs(picture[[5, 100, 223], [7, 150, 223]].astype(int) - CANARY_PIXELS).max() <= 1


def test_the_canary_tells_neighbouring_patches_apart() -> None:
    patches = waves(224).reshape(14, 16, 14, 16, 3).swapaxes(1, 2).reshape(14, 14, -1).astype(float)
    assert np.abs(np.diff(patches, axis=1)).mean((2,)).min() > 1
    assert np.abs(np.diff(patches, axis=0)).mean((2,)).min() > 1


def test_the_core_imports_neither_qt_nor_native_code_beside_numpy() -> None:
    names = "aspects ask canary errors faces package policy prompt"
    script = f"import sys; import {', '.join('facellm.core.' + name for name in names.split())}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    heavy = ("PySide6", "cv2", "mediapipe", "llama_cpp", "torch", "PIL", "gguf", "onnx", "typer", "rich")
    assert not [name for name in loaded if name.split(".")[0] in heavy]


CANARY_MEANS = (154.0232, 141.7683, 123.5722)
CANARY_PIXELS = ((233, 217, 81), (161, 158, 192), (4, 248, 49))
