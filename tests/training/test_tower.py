"""The image tower in PyTorch, and the stages' parts, on the real weights where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (python3 run.py setup training)")

from facellm.models.nano import clip_onnx  # noqa: E402
from facellm.models.store import AssetStore  # noqa: E402
from facellm_training.nano.augment import flipped_view  # noqa: E402
from facellm_training.nano.export import quantise_rows, restored  # noqa: E402
from facellm_training.nano.projector import EMBEDDING_NORM, Projector  # noqa: E402
from facellm_training.nano.tower import Tower, normalise, pixel_shuffle  # noqa: E402


@pytest.fixture(scope="module")
def weights(assets: AssetStore) -> clip_onnx.Weights:
    return clip_onnx.read_clip_tower(assets.ensure("clip-vit-b16-int8"))


@pytest.fixture(scope="module")
def picture(astronaut: Path) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(astronaut).convert("RGB").crop((160, 40, 304, 184)).resize((224, 224)))


def test_tower_equals_transformers(weights: clip_onnx.Weights, picture: np.ndarray) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPVisionConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, image_size=224,
        patch_size=16, hidden_act="quick_gelu", layer_norm_eps=1e-5,
    )  # fmt: skip
    model = transformers.CLIPVisionModel(config).eval()
    names = model.state_dict().keys()
    prefix = "vision_model." if any(name.startswith("vision_model.") for name in names) else ""
    model.load_state_dict({prefix + k: torch.from_numpy(v.copy()) for k, v in weights.items()}, strict=False)
    pixels = normalise(picture[None])
    with torch.inference_mode():
        theirs = model(pixels, output_hidden_states=True).hidden_states[11]
        tower = Tower(weights)
        ours = tower(tower.embed(pixels))
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_two_halves_of_the_tower_are_the_tower(weights: clip_onnx.Weights, picture: np.ndarray) -> None:
    lower, upper, whole = Tower(weights, last=6), Tower(weights, first=6, rank=4), Tower(weights)
    with torch.inference_mode():
        x = whole.embed(normalise(picture[None]))
        assert torch.allclose(upper(lower(x)), whole(x), atol=1e-5), "fresh LoRA changes nothing"


def test_pixel_shuffle_joins_neighbours() -> None:
    x = torch.zeros(1, 197, 1)
    x[0, 1:, 0] = torch.arange(196)
    tokens = pixel_shuffle(x)
    assert tokens.shape == (1, 49, 4)
    assert tokens[0, 0].tolist() == [0, 1, 14, 15]
    assert tokens[0, 8].tolist() == [30, 31, 44, 45]


def test_projector_starts_at_the_length_of_word_embeddings() -> None:
    torch.manual_seed(0)
    sample = torch.randn(8, 49, 3072) * torch.linspace(0.1, 5, 3072) + 2
    projector = Projector()
    projector.start_from(sample)
    with torch.no_grad():
        assert projector(sample).norm(dim=-1).mean().item() == pytest.approx(EMBEDDING_NORM, rel=1e-3)


def test_stored_lora_is_close_to_the_trained_one() -> None:
    torch.manual_seed(1)
    matrix = torch.randn(16, 576)
    stored, scale = quantise_rows(matrix)
    assert stored.dtype == np.int8 and scale.shape == (16,)
    assert (restored(matrix) - matrix).abs().max() < matrix.abs().max() / 127
    assert torch.equal(restored(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_mirrored_view_is_mirrored_and_repeatable(picture: np.ndarray) -> None:
    one, two = (flipped_view(picture, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(one, two) and one.shape == picture.shape and one.dtype == np.uint8
    small = (
        one[::8, ::8].astype(float).ravel(),
        picture[::8, ::-8].astype(float).ravel(),
        picture[::8, ::8].astype(float).ravel(),
    )
    assert np.corrcoef(small[0], small[1])[0, 1] > 0.7 > np.corrcoef(small[0], small[2])[0, 1]


def test_training_goes_on_from_earlier_deltas(weights: clip_onnx.Weights, picture: np.ndarray) -> None:
    """The image model that starts from the shipped deltas shows the tokens that those deltas were trained to."""
    from facellm.models.nano.deltas import read_deltas
    from facellm.models.nano.pair import DELTAS
    from facellm_training.nano.export import matrices, merged_tower
    from facellm_training.nano.image_stage import ImageModel, ImageStage, begin
    from facellm_training.nano.tower import tower_loras

    settings = ImageStage(bf16=False)
    model, lower = ImageModel(weights, settings), Tower(weights, last=settings.first_block)
    with torch.inference_mode():
        sample = lower(lower.embed(normalise(picture[None])))
    begin(model, sample, str(DELTAS))
    stored = read_deltas(DELTAS)
    trained = ("tower.layers.7.mlp.fc1", "tower.layers.10.self_attn.q_proj")
    loras = tower_loras(model.tower)
    for name in trained:
        change = loras[name].scale * loras[name].b @ loras[name].a
        assert torch.allclose(change.double(), torch.from_numpy(stored.loras[name].change()), atol=1e-5)
    merged = Tower(merged_tower(weights, matrices(loras), settings.alpha / settings.rank))
    with torch.inference_mode():
        tokens = model.tokens(sample)
        assert tokens.norm(dim=-1).mean().item() == pytest.approx(EMBEDDING_NORM, rel=1e-3)
        whole = model.projector(pixel_shuffle(merged(merged.embed(normalise(picture[None])))))
    assert torch.nn.functional.cosine_similarity(tokens, whole, dim=-1).min() > 0.999
