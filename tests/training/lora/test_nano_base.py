"""The embedded model as a base: prompted as the engine does it, computed as the converter's reference does it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from facellm.cli.app import app
from facellm.core.package import ModelPackage
from facellm.engine.template import ChatTemplate, Control, Said
from facellm.models.nano.gguf_files import CHAT_TEMPLATE
from facellm.models.nano.pair import LANGUAGE_ASSET, TOWER_ASSET
from facellm.models.packages import list_packages
from facellm.models.store import HOME_ENV, AssetStore
from facellm_converters.convert import Order, convert
from facellm_converters.equality.compare import compare_with
from facellm_converters.equality.decoder import next_token_logits
from facellm_converters.equality.tower import tokens_of_all
from facellm_converters.layouts.checkpoint import open_checkpoint
from facellm_training.lora.bases import BaseError, geometry, kind_of
from facellm_training.lora.collate import packed
from facellm_training.lora.conversations import Conversation
from facellm_training.lora.model import load_base, logits_of
from facellm_training.lora.nano_base import NANO_MARKS
from facellm_training.lora.recipe import read_recipe
from facellm_training.lora.run import train_lora
from facellm_training.lora.template import SILENT, Template
from facellm_training.nano.checkpoint import kept_checkpoint, write_checkpoint
from tests.training.lora.test_wiring import sequences

TOKENS = 49


@pytest.fixture(scope="module")
def store() -> AssetStore:
    found = AssetStore()
    if not all(found.file(name).is_file() for name in (LANGUAGE_ASSET, TOWER_ASSET)):
        pytest.skip("the carriers of the embedded model are not on this machine")
    return found


@pytest.fixture(scope="module")
def nano(made: Path, store: AssetStore) -> Iterator[Path]:
    """The real one; the other fixtures know it as the kind "nano"."""
    yield write_checkpoint(made / "nano", store)
    shutil.rmtree(made / "nano")


@pytest.mark.parametrize("count", [1, 2])
def test_a_prompt_is_the_engines(nano: Path, count: int) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(nano)
    template = Template(tokenizer, geometry(nano).tokens, 512, kind_of(nano).marks)
    question = "Which?\nA) x\nB) y"
    said = (("user", "<image>" * count + question), ("assistant", "A"))
    closed = template.closed(Conversation("1", (Path("x"),) * count, said, choices=("x", "y"), answer="A"))
    pieces = ChatTemplate(CHAT_TEMPLATE, bos="<|im_start|>", eos="<|im_end|>").compose(question, [], count)
    place = NANO_MARKS.place * TOKENS
    text = "".join(piece.text if isinstance(piece, Control | Said) else place for piece in pieces)
    assert text.count(NANO_MARKS.place) == count * TOKENS
    assert closed is not None
    assert closed.ids.tolist() == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert [tokenizer.decode(key) for key in closed.keys] == ["A", "B"]


def test_the_forward_pass_is_the_references(nano: Path, session) -> None:
    """Of two conversations in one row; the converter's reference computes each alone, in its own code."""
    made = session("nano", data={"max_tokens": 256}, speed={"row_tokens": 512})
    given, tiles = sequences(made, [0, 1])
    with torch.no_grad():
        found = logits_of(made.model, packed([given], tiles), made.normalise).numpy()
    place = made.model.get_base_model().config.image_token_id
    right = []
    with open_checkpoint(nano) as checkpoint:
        seen = iter(tokens_of_all(checkpoint, tiles))
        for ids, labels in given:
            first = int((ids == place).argmax())
            whole = [*ids[:first].tolist(), next(seen), *ids[first + TOKENS :].tolist()]
            shift = len(ids) - len(next_token_logits(checkpoint, whole))
            loud = np.flatnonzero(labels != SILENT) - 1
            right.append(next_token_logits(checkpoint, whole)[loud - shift])
    assert np.abs(found - np.concatenate(right)).max() < 2e-3 * np.concatenate(right).std()


def test_it_learns_from_the_picture(nano: Path, session) -> None:
    """A batch overfits, and only with its own pictures: red, green and blue squares, which it was never asked about."""
    made = session(
        "nano", data={"max_tokens": 256, "held_out": 0}, speed={"row_tokens": 1024},
        language={"rank": 8, "alpha": 16, "lr": 4e-3}, projector={"full": True, "lr": 2e-3},
    )  # fmt: skip
    closed = [place for place, one in enumerate(made.corpus.train.conversations) if one.choices][:3]
    given, tiles = sequences(made, closed)
    batch = packed([given], tiles)
    losses = []
    for _ in range(14):
        loss = made.loss(batch) / len(batch.targets)
        made.optim.zero_grad()
        loss.backward()
        made.optim.step()
        losses.append(float(loss.detach()))
    with torch.no_grad():
        shuffled = float(made.loss(packed([given], [*tiles[1:], tiles[0]]))) / len(batch.targets)
    assert losses[-1] < 0.1 < losses[0]
    assert shuffled > losses[-1] + 0.5


def test_a_trained_adapter_becomes_a_pair_that_answers_alike(nano: Path, recipe_file, one_thread, tmp_path) -> None:
    parts = {
        "language": {"rank": 4, "alpha": 8, "lr": 5e-3}, "image_tower": {"rank": 2, "alpha": 4, "lr": 1e-3},
        "projector": {"full": True, "lr": 1e-4},
    }  # fmt: skip
    settings = {"optimiser": {"batch": 6, "epochs": 0.7}, "evaluation": {"every": 0}, "speed": {"row_tokens": 512}}
    adapter = train_lora(read_recipe(recipe_file(kind="nano", **parts, **settings)), print)
    done = convert(Order(nano, tmp_path / "gguf", "F16", "F16", adapter), lambda *_: None)
    pair = ModelPackage("tuned", done.language, done.mmproj, 224)
    report = compare_with(nano, adapter, pair)
    assert report.equal, report.table()
    assert not compare_with(nano, None, pair).equal, "the adapter changes what the model answers"
    shutil.rmtree(tmp_path / "gguf")


def test_a_recipe_names_it_and_its_checkpoint_is_made_once(
    store: AssetStore, recipe_file, one_thread, tmp_path, monkeypatch
) -> None:
    """``base: nano`` from the recipe to the list of models."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "assets").symlink_to(store.root / "assets")
    monkeypatch.setenv(HOME_ENV, str(home))
    recipe = recipe_file(
        base="nano", optimiser={"batch": 6, "epochs": 0.3}, evaluation={"every": 0}, speed={"row_tokens": 512},
        release={"wide": "Q8_0", "quants": ["Q8_0"]},
    )  # fmt: skip
    done = CliRunner().invoke(app, ["release", str(recipe), "--name", "tuned"])
    assert done.exit_code == 0, done.output
    assert done.output.count("as a checkpoint to") == 1
    assert "tuned-q8_0" in [package.name for package in list_packages(AssetStore())]
    report = json.loads((tmp_path / "out" / "release" / "held-out" / "report.json").read_text())
    assert list(report["models"]) == ["base", "Q8_0"]
    said: list[str] = []
    folder = kept_checkpoint(AssetStore(), said.append)
    again = CliRunner().invoke(app, ["train", str(recipe)])
    assert f"convert {folder} --adapter" in again.output, "convert takes no name of the embedded model"
    assert "facellm_nano" not in done.output + again.output, "transformers is not told of a kind that it does not know"
    assert not said and folder.is_relative_to(home / "checkpoints")
    shutil.rmtree(home, ignore_errors=True)


def test_a_checkpoint_that_is_not_whole_is_said(nano: Path, tmp_path: Path, recipe_file) -> None:
    from safetensors.torch import load_file, save_file

    for file in nano.iterdir():
        (tmp_path / file.name).symlink_to(file)
    weights = next(tmp_path.glob("*.safetensors"))
    kept = load_file(weights)
    lost = kept.pop(next(name for name in kept if "fc1" in name))
    weights.unlink()
    save_file(kept, weights)
    assert lost.numel()
    with pytest.raises(BaseError, match="lacks 1 weights"):
        load_base(tmp_path, read_recipe(recipe_file()), torch.device("cpu"))
