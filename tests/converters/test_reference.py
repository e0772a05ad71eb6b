"""The numpy computation of a checkpoint is what transformers computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facellm_converters.equality.decoder import embedded, next_token_logits
from facellm_converters.equality.tower import image_tokens
from facellm_converters.layouts.checkpoint import open_checkpoint

torch = pytest.importorskip("torch", reason="the checkpoints are made with PyTorch")

from tests.converters import checkpoints
from tests.converters.test_pairs import PICTURES, cosines, wanted

CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
MAKERS = {
    "qwen2": (lambda folder: checkpoints.internvl(folder), (checkpoints.MEAN, checkpoints.STD)),
    "qwen3": (lambda folder: checkpoints.internvl(folder, "qwen3"), (checkpoints.MEAN, checkpoints.STD)),
    "llava": (checkpoints.llava, CLIP),
}


@pytest.fixture(scope="module", params=MAKERS)
def model(request, tmp_path_factory) -> tuple[Any, Path, Any]:
    make, colours = MAKERS[request.param]
    folder = tmp_path_factory.mktemp("reference") / request.param
    return make(folder), folder, colours


def test_image_tokens(model) -> None:
    right = wanted(model[0], *model[2])
    with open_checkpoint(model[1]) as checkpoint:
        found = np.stack([image_tokens(checkpoint, picture) for picture in PICTURES])
    assert found.shape == right.shape
    assert cosines(found, right).min() > 0.999999
    assert np.abs(found - right).max() < 1e-4 * right.std()


def test_logits(model) -> None:
    ids = np.random.default_rng(1).integers(0, 700, 40)
    with torch.no_grad():
        right = model[0](input_ids=torch.from_numpy(ids)[None]).logits[0].numpy()
    with open_checkpoint(model[1]) as checkpoint:
        found = next_token_logits(checkpoint, embedded(checkpoint, ids.tolist()), 25)
    assert np.abs(found - right[-25:]).max() < 1e-4 * right.std()


def test_opengvlabs_layout_is_the_same_model(tmp_path) -> None:
    checkpoints.internvl(tmp_path / "hf")
    checkpoints.chat_model(tmp_path / "chat", tmp_path / "hf")
    found = []
    for name in ("hf", "chat"):
        with open_checkpoint(tmp_path / name) as checkpoint:
            found.append(image_tokens(checkpoint, PICTURES[0]))
    assert np.array_equal(*found)
