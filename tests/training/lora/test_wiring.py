"""Pictures, prompts, answers and gradients are where they belong."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch

from facellm_training.lora.collate import packed, padded
from facellm_training.lora.conversations import Conversation, DataError
from facellm_training.lora.loop import run
from facellm_training.lora.model import logits_of, part_of
from facellm_training.lora.optimiser import share_of_rate
from facellm_training.lora.recipe import Optimiser
from facellm_training.lora.template import SILENT

LOUD = {"rank": 4, "alpha": 8, "lr": 2e-2}


def sequences(session, chosen) -> tuple[list[Any], list[Any]]:
    part = session.corpus.train
    tiles = [session.tiles(image) for one in chosen for image in part.conversations[one].images]
    return [(part.encoded[one].ids, part.encoded[one].labels) for one in chosen], tiles


@pytest.mark.parametrize("language", ["qwen2", "qwen3"])
def test_pixel_values_reach_the_model_and_matter(session, language) -> None:
    made = session(language)
    given, tiles = sequences(made, [0, 1, 2])
    seen = []
    tower = made.model.get_base_model().model.vision_tower
    handle = tower.register_forward_pre_hook(lambda _, __, kw: seen.append(kw["pixel_values"]), with_kwargs=True)
    with torch.no_grad():
        one = logits_of(made.model, packed([given], tiles), made.normalise)
        other = logits_of(made.model, packed([given], tiles[::-1]), made.normalise)
    handle.remove()
    assert seen[0].shape == (3, 3, 112, 112)
    red = torch.from_numpy(tiles[0][..., 0].copy()).float() / 255
    assert torch.allclose(seen[0][0, 0], (red - 0.485) / 0.229, atol=1e-6)
    assert (one - other).abs().max() > 1e-2


def test_each_picture_stands_where_its_conversation_is(session) -> None:
    made = session()
    given, tiles = sequences(made, [0, 1, 2])
    wanted = packed([given], tiles)
    other = packed([given], [tiles[0], tiles[1], 255 - tiles[2]])
    with torch.no_grad():
        one, changed = (logits_of(made.model, batch, made.normalise) for batch in (wanted, other))
    last = int((given[2][1] != SILENT).sum())
    assert torch.equal(one[:-last], changed[:-last])
    assert (one[-last:] - changed[-last:]).abs().max() > 1e-2


def test_loss_with_the_right_picture_is_lower_than_with_a_shuffled_one(session) -> None:
    made = session(
        language=LOUD, projector={"full": True, "lr": 2e-2}, optimiser={"batch": 18, "epochs": 30.0},
        speed={"row_tokens": 2048}, evaluation={"every": 0},
    )  # fmt: skip
    progress = run(made)
    made.model.eval()
    closed = [place for place, one in enumerate(made.corpus.train.conversations) if one.choices]
    given, tiles = sequences(made, closed)
    with torch.no_grad():
        right = float(made.loss(packed([given], tiles))) / len(closed)
        shuffled = float(made.loss(packed([given], [*tiles[1:], tiles[0]]))) / len(closed)
    assert right < 0.2
    assert shuffled > right + 1
    last = progress.evaluations[-1]
    assert last["accuracy"] == 1.0 and last["probability"] > progress.evaluations[0]["probability"] + 0.3


def test_one_batch_overfits(session) -> None:
    made = session(language=LOUD, optimiser={"batch": 4})
    given, tiles = sequences(made, [0, 1, 2, 3])
    batch = packed([given], tiles)
    count = len(batch.targets)
    losses = []
    for _ in range(80):
        loss = made.loss(batch) / count
        made.optim.zero_grad()
        loss.backward()
        made.optim.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 5
    assert losses[-1] < 0.05


def test_prompt_and_picture_tokens_carry_no_loss(session) -> None:
    made = session()
    part, tokenizer = made.corpus.train, _tokenizer(made)
    for conversation, encoded in zip(part.conversations, part.encoded, strict=True):
        answer = conversation.messages[-1][1]
        spoken = tokenizer.decode(encoded.labels[encoded.labels != SILENT])
        assert spoken == f"{answer}<|im_end|>"
        assert (encoded.ids == tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")).sum() == 16
    given, tiles = sequences(made, [0])
    batch = packed([given], tiles)
    places = batch.loud[0].nonzero()[:, 0]
    assert torch.equal(batch.input_ids[0, places + 1], batch.targets)


def test_lora_gets_gradients_and_frozen_weights_none(session) -> None:
    made = session(projector={"full": True, "lr": 1e-3}, image_tower={"rank": 2, "alpha": 4, "lr": 1e-4})
    given, tiles = sequences(made, [0, 1])
    with torch.no_grad():
        for name, values in made.model.named_parameters():
            if "lora_B" in name:
                values.normal_(0, 0.1)
    made.loss(packed([given], tiles)).backward()
    with_gradient = {name for name, one in made.model.named_parameters() if one.grad is not None}
    for name in with_gradient:
        assert "lora_" in name or "modules_to_save" in name, name
    trained = {name: one for name, one in made.model.named_parameters() if one.requires_grad}
    assert set(trained) == with_gradient
    assert all(float(one.grad.abs().max()) > 0 for one in trained.values())
    assert {part_of(name) for name in trained} == {"language", "image_tower", "projector"}


def test_each_part_has_its_own_rank_and_rate(session) -> None:
    made = session(
        language={"rank": 4, "lr": 1e-3}, image_tower={"rank": 2, "alpha": 4, "lr": 1e-4},
        projector={"rank": 3, "alpha": 3, "lr": 1e-5},
    )  # fmt: skip
    ranks = {}
    for name, values in made.model.named_parameters():
        if "lora_A" in name:
            ranks.setdefault(part_of(name), set()).add(values.shape[0])
    assert ranks == {"language": {4}, "image_tower": {2}, "projector": {3}}
    rates = {group["top"]: group["params"] for group in made.optim.param_groups}
    assert set(rates) == {1e-3, 1e-4, 1e-5}
    names = {id(values): name for name, values in made.model.named_parameters()}
    assert all(part_of(names[id(one)]) == "image_tower" for one in rates[1e-4])


def test_the_rate_rises_and_falls_as_a_cosine() -> None:
    plain = Optimiser()
    assert share_of_rate(0, 100, plain) == 1.0
    assert share_of_rate(50, 100, plain) == pytest.approx(0.5)
    assert share_of_rate(100, 100, plain) == pytest.approx(0.0)
    warm = Optimiser(warm_up=0.1, final_share=0.1)
    assert [share_of_rate(step, 100, warm) for step in (0, 9, 10)] == pytest.approx([0.1, 1.0, 1.0])
    assert share_of_rate(100, 100, warm) == pytest.approx(0.1)


@pytest.mark.parametrize("language", ["qwen2", "qwen3"])
def test_packed_losses_and_gradients_are_those_of_each_conversation_alone(session, language) -> None:
    made = session(language)
    chosen = [0, 1, 2, 3, 4]
    given, tiles = sequences(made, chosen)
    alone = [made.loss(packed([[one]], [tile])) for one, tile in zip(given, tiles, strict=True)]
    found = {}
    for name, loss in {
        "alone": torch.stack(alone).sum(),
        "packed": made.loss(packed([given], tiles)),
        "filled": made.loss(packed([given], tiles, fill=512, pad=made.pad)),
        "rows": made.loss(packed([given[:2], given[2:]], tiles, pad=made.pad)),
        "padded": made.loss(padded(given, tiles, pad=made.pad)),
    }.items():
        made.optim.zero_grad()
        loss.backward()
        gradients = [one.grad.clone() for one in made.model.parameters() if one.grad is not None]
        found[name] = (float(loss.detach()), torch.cat([one.flatten() for one in gradients]))
    loss, gradient = found.pop("alone")
    for name, (other, other_gradient) in found.items():
        assert other == pytest.approx(loss, rel=1e-5), name
        assert (other_gradient - gradient).abs().max() < 1e-4 * gradient.abs().max(), name


def test_older_transformers_give_the_same_logits(session, monkeypatch) -> None:
    """Those take a list of places for all rows, not a mask."""
    made = session()
    given, tiles = sequences(made, [0, 1, 2, 3])
    batch = packed([given[:2], given[2:]], tiles, pad=made.pad)
    with torch.no_grad():
        by_mask = logits_of(made.model, batch, made.normalise)
        monkeypatch.setattr("facellm_training.lora.model._BY_MASK", False)
        by_list = logits_of(made.model, batch, made.normalise)
    assert by_mask.shape == (len(batch.targets), 1010)
    assert torch.allclose(by_mask, by_list, atol=1e-5)


def test_gradient_checkpointing_changes_nothing(session, tmp_path) -> None:
    found = []
    for on in (False, True):
        made = session(speed={"gradient_checkpointing": on}, out=str(tmp_path / f"out{on}"))
        made.model.train()
        given, tiles = sequences(made, [0, 1])
        made.loss(packed([given], tiles)).backward()
        found.append(torch.cat([one.grad.flatten() for one in made.model.parameters() if one.grad is not None]))
    assert torch.allclose(found[0], found[1], rtol=0, atol=1e-6 * float(found[0].abs().max()))


def _tokenizer(made):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(made.recipe.base)


def test_a_conversation_has_its_pictures_in_order(session) -> None:
    made = session()
    pictures = tuple(made.corpus.train.images[:2])
    both = Conversation("pair", pictures, (("user", "<image><image>Which?"), ("assistant", "The first.")))
    from facellm_training.lora.template import Template

    encoded = Template(_tokenizer(made), 16, 100).encode(both)
    assert encoded.pictures == 2
    assert (encoded.ids == _tokenizer(made).convert_tokens_to_ids("<img>")).sum() == 2


def test_bfloat16_with_every_part_and_processes_that_decode_ahead(session) -> None:
    made = session(
        projector={"full": True, "lr": 1e-3}, image_tower={"rank": 2, "alpha": 4, "lr": 1e-4},
        data={"workers": 2, "image_cache": False},
        speed={"precision": "bf16", "rows": 2, "gradient_checkpointing": True},
    )  # fmt: skip
    progress = run(made)
    assert progress.step == made.order.steps == 5
    assert progress.evaluations[-1]["loss"] < progress.evaluations[0]["loss"]
    kinds = {values.dtype for values in made.model.parameters() if values.requires_grad}
    assert kinds == {torch.float32}, "trained weights are kept in full"


def test_a_picture_that_goes_bad_while_training_is_named(session, made, tmp_path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(made / "data", folder)
    bad = session(folder=folder, data={"workers": 1, "image_cache": False, "held_out": 0})
    (folder / "images" / "4.png").write_bytes(b"none")
    with pytest.raises(DataError, match=r"^The picture .*4\.png cannot be read") as caught:
        run(bad)
    assert "Traceback" not in str(caught.value)
