"""The numpy computation of a checkpoint is what transformers computes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facellm_converters.equality.decoder import (
    POSITIONS,
    Stretch,
    embedded,
    hidden_states,
    logit_pieces,
    next_token_logits,
)
from facellm_converters.equality.numbers import activate, erf
from facellm_converters.equality.projector import shuffled
from facellm_converters.equality.rotary import turns
from facellm_converters.equality.tower import image_tokens, tokens_of_all
from facellm_converters.layouts import recognise
from facellm_converters.layouts.checkpoint import open_checkpoint

torch = pytest.importorskip("torch", reason="the checkpoints are made with PyTorch")
pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModel, InternVLVisionConfig, InternVLVisionModel

from tests.converters import checkpoints
from tests.converters.test_pairs import PICTURES, cosines, wanted

CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
MAKERS = {
    "qwen2": (lambda folder: checkpoints.internvl(folder), (checkpoints.MEAN, checkpoints.STD)),
    "qwen3": (lambda folder: checkpoints.internvl(folder, "qwen3"), (checkpoints.MEAN, checkpoints.STD)),
    "llava": (checkpoints.llava, CLIP),
}
IDS = np.random.default_rng(1).integers(0, 700, 70)


@pytest.fixture(scope="module", params=MAKERS)
def model(request, tmp_path_factory) -> tuple[Any, Path, Any]:
    make, colours = MAKERS[request.param]
    folder = tmp_path_factory.mktemp("reference") / request.param
    return make(folder), folder, colours


def logits_of(model: Any, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(input_ids=torch.from_numpy(ids)[None]).logits[0].numpy()


def pixels(mean: Any, std: Any) -> Any:
    values = (np.stack(PICTURES).astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
    return torch.from_numpy(values.transpose(0, 3, 1, 2).copy())


def changed(folder: Path, part: str, **values: Any) -> None:
    """Set values in a part of config.json."""
    config = json.loads((folder / "config.json").read_text())
    config[part] |= values
    (folder / "config.json").write_text(json.dumps(config))


def test_image_tokens(model) -> None:
    right = wanted(model[0], *model[2])
    with open_checkpoint(model[1]) as checkpoint:
        found = np.stack([image_tokens(checkpoint, picture) for picture in PICTURES])
        together = tokens_of_all(checkpoint, PICTURES)
    assert found.shape == right.shape
    assert cosines(found, right).min() > 0.999999
    assert np.abs(found - right).max() < 1e-4 * right.std()
    assert np.array_equal(found, together)


def test_logits(model) -> None:
    right = logits_of(model[0], IDS)
    with open_checkpoint(model[1]) as checkpoint:
        found = next_token_logits(checkpoint, IDS.tolist(), 25)
        every = next_token_logits(checkpoint, embedded(checkpoint, IDS.tolist()))
    assert found.shape == (25, right.shape[1])
    assert np.abs(every - right).max() < 1e-4 * right.std()
    assert np.array_equal(every[-25:].argmax(-1), found.argmax(-1))
    assert np.abs(every[-25:] - found).max() < 1e-5


def test_logits_after_a_picture(model) -> None:
    transformer, folder, colours = model
    inner = transformer.model
    with torch.no_grad():
        image = torch.from_numpy(wanted(transformer, *colours)[:1])
        words = inner.get_input_embeddings()(torch.from_numpy(IDS[:20])[None])
        inputs = torch.cat([words[:, :4], image, words[:, 4:]], 1)
        right = transformer.lm_head(inner.language_model(inputs_embeds=inputs).last_hidden_state)[0, -16:].numpy()
    with open_checkpoint(folder) as checkpoint:
        seen = image_tokens(checkpoint, PICTURES[0])
        found = next_token_logits(checkpoint, [*IDS[:4].tolist(), seen, *IDS[4:20].tolist()], 16)
    assert np.abs(found - right).max() < 1e-3


def test_texts_that_share_a_beginning_are_each_what_they_are_alone(model) -> None:
    with open_checkpoint(model[1]) as checkpoint:
        parts = [embedded(checkpoint, part.tolist()) for part in (IDS[:30], IDS[30:50], IDS[50:])]
        hidden = hidden_states(
            checkpoint, [Stretch(parts[0]), Stretch(parts[1], 0), Stretch(parts[2], 0), Stretch(parts[2])]
        )
        for one, before in ((1, [IDS[:30], IDS[30:50]]), (2, [IDS[:30], IDS[50:]]), (3, [IDS[50:]])):
            alone = logits_of(model[0], np.concatenate(before))[-20:]
            assert np.abs(next(logit_pieces(checkpoint, hidden[one])) - alone).max() < 1e-4 * alone.std()


def test_logits_come_in_pieces_that_are_small(model) -> None:
    with open_checkpoint(model[1]) as checkpoint:
        (hidden,) = hidden_states(checkpoint, [Stretch(embedded(checkpoint, IDS.tolist()))])
        sizes = [len(piece) for piece in logit_pieces(checkpoint, hidden)]
    assert sizes == [POSITIONS, POSITIONS, 70 - 2 * POSITIONS]


def test_opengvlabs_layout_is_the_same_model(tmp_path) -> None:
    checkpoints.internvl(tmp_path / "hf")
    checkpoints.chat_model(tmp_path / "chat", tmp_path / "hf")
    found = []
    for name in ("hf", "chat"):
        with open_checkpoint(tmp_path / name) as checkpoint:
            found.append((image_tokens(checkpoint, PICTURES[0]), next_token_logits(checkpoint, IDS.tolist(), 3)))
    assert all(np.array_equal(*both) for both in zip(*found, strict=True))


@pytest.mark.parametrize("bias", [True, False])
def test_the_tower_of_6b_with_its_rms_norms_and_normed_queries(tmp_path, monkeypatch, bias) -> None:
    checkpoints.internvl(tmp_path / "model")
    vision = InternVLVisionConfig(
        image_size=[checkpoints.IMAGE] * 2, patch_size=[checkpoints.PATCH] * 2, attention_bias=bias,
        norm_type="rms_norm", use_qk_norm=True, hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=128,
    )  # fmt: skip
    tower = checkpoints.shaken(InternVLVisionModel(vision), 3)
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights = {name: values for name, values in weights.items() if "vision_tower." not in name}
    weights |= {f"vision_tower.{name}": values for name, values in tower.state_dict().items()}
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    changed(tmp_path / "model", "vision_config", norm_type="rms_norm", use_qk_norm=True, attention_bias=bias)
    monkeypatch.setattr(recognise, "_RMS_TOWER", (64, 4))
    with torch.no_grad():
        right = tower(pixel_values=pixels(checkpoints.MEAN, checkpoints.STD)).last_hidden_state[:, 1:].numpy()
    seen = []
    monkeypatch.setattr("facellm_converters.equality.tower.projected", lambda _, x: seen.append(x) or x)
    with open_checkpoint(tmp_path / "model") as checkpoint:
        assert checkpoint.vision.rms and checkpoint.vision.qk_norm
        tokens_of_all(checkpoint, PICTURES)
    assert np.abs(seen[0] - right).max() < 1e-4 * right.std()


def test_the_nanos_layout(tmp_path) -> None:
    """CLIP's penultimate layer, four neighbours to a token, RMS norm, two matrices with a squared ReLU between."""
    folder = tmp_path / "nano"
    checkpoints.llava(tmp_path / "llava")
    checkpoints.nano(folder, tmp_path / "llava")
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    gain, fc1, fc2 = (weights[f"multi_modal_projector.{name}.weight"] for name in ("norm", "fc1", "fc2"))
    tower = CLIPVisionModel(CLIPVisionConfig(**config["vision_config"])).eval()
    states = {name.split("vision_tower.")[1]: values for name, values in weights.items() if "vision_tower." in name}
    tower.load_state_dict({name: states[_in(states, name)] for name in tower.state_dict()})
    with torch.no_grad():
        patches = tower(pixel_values=pixels(*CLIP), output_hidden_states=True).hidden_states[-2][:, 1:]
        grid = patches.reshape(2, 4, 2, 4, 2, 64).permute(0, 1, 3, 2, 4, 5).reshape(2, 16, 256)
        normed = torch.nn.functional.rms_norm(grid, (256,), gain, 1e-6)
        right = (torch.relu(normed @ fc1.T) ** 2 @ fc2.T).numpy()
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.kind == "nano"
        found = tokens_of_all(checkpoint, PICTURES)
    assert cosines(found, right).min() > 0.999999
    assert np.abs(found - right).max() < 1e-4 * right.std()


def _in(states: dict[str, Any], name: str) -> str:
    """transformers has CLIP's tower with and without ``vision_model.`` before its names."""
    return next(known for known in states if known.removeprefix("vision_model.") == name.removeprefix("vision_model."))


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear", "factor": 4.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
        {
            "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 16, "beta_fast": 4.0,
            "beta_slow": 2.0, "attention_factor": 0.7,
        },
    ],
)  # fmt: skip
def test_scaled_positions(tmp_path, scaling) -> None:
    model = checkpoints.internvl(tmp_path / "model", "qwen3")
    text = model.model.language_model
    text.config.rope_parameters = {"rope_theta": 1e4, **scaling}
    rotary = type(text.rotary_emb)(text.config)
    text.rotary_emb = rotary
    changed(tmp_path / "model", "text_config", rope_parameters=text.config.rope_parameters)
    right = logits_of(model, IDS)
    with open_checkpoint(tmp_path / "model") as checkpoint:
        found = next_token_logits(checkpoint, IDS.tolist())
        cos, _ = turns(checkpoint.text, np.arange(70))
    with torch.no_grad():
        theirs = rotary(torch.zeros(1), torch.arange(70)[None])[0][0, :, :16].numpy()
    assert np.abs(cos - theirs).max() < 1e-5
    assert np.abs(found - right).max() < 1e-3


def test_the_error_function_and_what_is_made_of_it() -> None:
    x = np.concatenate([np.linspace(-8, 8, 100_001), [1e-6, -1e-6, 100, -100, 3e38]]).astype(np.float32)
    exact = np.array([math.erf(float(one)) for one in x])
    assert np.abs(erf(x) - exact).max() < 1e-7
    for name, theirs in (
        ("gelu", torch.nn.functional.gelu), ("silu", torch.nn.functional.silu),
        ("quick_gelu", lambda values: values * torch.sigmoid(1.702 * values)),
    ):  # fmt: skip
        with np.errstate(over="raise", invalid="raise"):
            found = activate(x[:-1].copy().reshape(5, -1), name).ravel()
        right = theirs(torch.from_numpy(x[:-1])).numpy()
        assert (np.abs(found - right) < 5e-7 * np.maximum(1, np.abs(x[:-1]))).all()


def test_four_neighbours_become_one_token() -> None:
    patches = np.arange(16, dtype=np.float32).reshape(1, 16, 1)
    assert shuffled(patches, 2)[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert np.array_equal(shuffled(patches, 1), patches)
