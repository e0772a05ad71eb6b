"""The language stage's parts: which pictures it draws, what it starts from, where the gradient goes."""

from __future__ import annotations

import copy
from pathlib import Path
from random import Random

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (python3 run.py setup training)")
pytest.importorskip("transformers", reason="transformers is not installed (run.py setup training)")

from facellm.models.nano import clip_onnx  # noqa: E402
from facellm.models.nano.deltas import read_deltas  # noqa: E402
from facellm.models.nano.pair import DELTAS  # noqa: E402
from facellm.models.store import AssetStore  # noqa: E402
from facellm_training.data.labels import TASKS, FaceLabels, held_out  # noqa: E402
from facellm_training.nano import language_stage as stage  # noqa: E402
from facellm_training.nano import word_stage  # noqa: E402
from facellm_training.nano.cache import FeatureCache  # noqa: E402
from facellm_training.nano.image_stage import ImageModel, ImageStage  # noqa: E402
from facellm_training.nano.image_stage import batch_loss as image_batch_loss  # noqa: E402
from facellm_training.nano.language import load_language  # noqa: E402
from facellm_training.nano.projector import Projector  # noqa: E402
from facellm_training.nano.sequence import Packer  # noqa: E402

Parts = tuple[stage.NanoModel, stage.Asking]


@pytest.fixture(scope="module")
def parts(assets: AssetStore) -> Parts:
    """The real model in float32 on eight pictures of noise, every label known."""
    torch.manual_seed(0)
    weights = clip_onnx.read_clip_tower(assets.ensure("clip-vit-b16-int8"))
    image = ImageModel(weights, ImageStage(bf16=False))
    stored = read_deltas(DELTAS)
    rank = len(stored.loras["language.layers.0.self_attn.q_proj"].a)
    language, tokenizer = load_language(assets.ensure("smollm2-135m-q4_1"), rank=rank, alpha=2.0 * rank, bf16=False)
    packer = Packer(tokenizer, stage.AGE_WEIGHT)
    model = stage.NanoModel(image, language, packer.head, Projector())
    rng = Random(0)
    labels = [FaceLabels(f"{i}.jpg", 0, {t: rng.randrange(len(n)) for t, n in TASKS.items()}) for i in range(8)]
    features = np.random.default_rng(0).standard_normal((8, 197, 768)).astype(np.float16)
    asking = stage.Asking(FeatureCache(features, []), labels, packer, stage.LanguageStage(batch=2), 0, {})
    return model, asking


def test_it_goes_on_from_earlier_deltas(parts: Parts) -> None:
    model, _ = parts
    stage.begin(model, str(DELTAS))
    stored = read_deltas(DELTAS)
    name = "language.layers.7.mlp.down_proj"
    lora = model.language.loras()[name]
    change = (lora.scale * lora.b @ lora.a).detach().double()
    assert torch.allclose(change, torch.from_numpy(stored.loras[name].change()), atol=1e-5)
    assert torch.equal(model.image.projector.fc2, torch.from_numpy(stored.projector["projector.fc2.weight"]))


def test_the_gradient_reaches_every_part_that_is_trained(parts: Parts) -> None:
    model, asking = parts
    stage.begin(model, str(DELTAS))  # with fresh LoRA half of the matrices have no gradient yet
    model.zero_grad()
    stage.step_loss(model, asking, [0, 1], Random(1)).backward()
    for name, value in model.named_parameters():
        assert value.grad is not None, name
    for part in (model.image.tower, model.image.projector, model.language, model.image.heads):
        assert any(value.grad.abs().max() > 0 for value in part.parameters())


def test_another_picture_changes_the_loss_of_the_same_questions(parts: Parts) -> None:
    """Pixel values reach the answers: only the features differ."""
    model, asking = parts
    with torch.no_grad():
        features = model.image_features(asking.cache.read([0, 1], model.image.device))
        packed = stage.pack_questions(asking.labels[:2], asking, Random(3), plain=True)
        batch = stage.collate(packed, len(asking.packer.head), 0)
        own = stage.batch_loss(model, features[:, None], batch)
        others = stage.batch_loss(model, features.flip(0)[:, None], batch)
    assert abs(float(own - others)) > 1e-4


def test_everything_goes_to_the_device_that_the_model_is_on(parts: Parts) -> None:
    """No GPU here: PyTorch's meta device, which as strictly refuses what lies elsewhere, stands for one."""
    model, asking = parts
    away = copy.deepcopy(model).to("meta")
    features = torch.zeros(2, 197, 768, device="meta")
    batch = stage.collate(
        stage.pack_questions(asking.labels[:2], asking, Random(3), plain=True), len(asking.packer.head), 0
    )
    assert stage.batch_loss(away, away.image_features(features)[:, None], batch).device.type == "meta"
    assert image_batch_loss(away.image, features, asking.labels[:2], ImageStage()).device.type == "meta"
    words = word_stage.WordHeads(model.language, asking.packer.tokenizer).to("meta")
    assert words(torch.zeros(2, 49, 576, device="meta"))["age"].device.type == "meta"


def test_half_of_the_pictures_drawn_have_labels_and_none_is_held_out() -> None:
    labels = [FaceLabels(f"train/{i}.jpg", 0, {"glasses": 0} if i % 4 == 0 else {}) for i in range(2000)]
    rows = stage.draw_rows(labels, stage.LanguageStage(pictures=1000, labelled_share=0.5))
    assert len(rows) == 1000
    assert not any(held_out(labels[row].file) for row in rows)
    assert sum("glasses" in labels[row].classes for row in rows) == 500
    assert rows != sorted(rows)
    assert rows == stage.draw_rows(labels, stage.LanguageStage(pictures=1000, labelled_share=0.5)), "same seed"


def test_more_pictures_than_there_are_come_again() -> None:
    labels = [FaceLabels(f"train/{i}.jpg", 0, {"glasses": 0} if i % 4 == 0 else {}) for i in range(100)]
    rows = stage.draw_rows(labels, stage.LanguageStage(pictures=400))
    assert len(rows) == 400


def test_comparisons_hold_the_same_number_of_pictures(parts: Parts) -> None:
    _, asking = parts
    for seed in range(20):
        packed = stage.pack_comparisons(asking.labels[:4], asking.packer, Random(seed))
        assert len({len(item.images) for item in packed}) <= 1


def test_files_of_the_stage_survive_a_path_that_is_not_there(parts: Parts, tmp_path: Path) -> None:
    from facellm.core.errors import ModelPartError

    model, _ = parts
    with pytest.raises(ModelPartError, match="missing"):
        stage.begin(model, str(tmp_path / "none.safetensors"))
