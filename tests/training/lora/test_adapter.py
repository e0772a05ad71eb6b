"""What training leaves is what ``facellm convert BASE --adapter`` takes, and nothing of it is lost on the way."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from facellm.core.package import ModelPackage
from facellm_converters.convert import Order, convert
from facellm_converters.equality.compare import compare_with
from facellm_converters.lora.adapter import read_adapter
from facellm_training.lora import measure
from facellm_training.lora.flops import peak, work
from facellm_training.lora.recipe import read_recipe
from facellm_training.lora.run import train_lora
from facellm_training.lora.template import SILENT

PARTS = {
    "language": {"lr": 2e-2},
    "image_tower": {"rank": 2, "alpha": 4, "lr": 2e-3},
    "projector": {"full": True, "lr": 2e-3},
}


@pytest.mark.parametrize(("kind", "parts"), [("qwen2", PARTS), ("qwen3", {"language": {"lr": 2e-2}})])
def test_a_trained_adapter_is_converted_and_answers_alike(made, recipe_file, one_thread, tmp_path, kind, parts) -> None:
    adapter = train_lora(
        read_recipe(recipe_file(kind=kind, optimiser={"epochs": 3.0}, **parts, evaluation={"keep": "last"})), print
    )
    found = read_adapter(adapter)
    assert len(found.loras) == 2 * 7 + (4 * 6 if "image_tower" in parts else 0)
    assert len(found.saved) == (6 if "projector" in parts else 0)
    assert found.touches_vision == ("projector" in parts)
    done = convert(Order(made / kind, tmp_path / "gguf", "F16", "F16", adapter), lambda *_: None)
    pair = ModelPackage("tiny", done.language, done.mmproj, 112)
    report = compare_with(made / kind, adapter, pair)
    assert report.equal, report.table()
    assert not compare_with(made / kind, None, pair).equal, "the adapter changes what the model answers"


def test_the_adapter_kept_is_the_best_one(recipe_file, one_thread, tmp_path, monkeypatch) -> None:
    """Losses as written here: a model that gets worse at will takes long to train."""
    losses, seen = [5.0, 3.0, 1.0, 4.0, 2.0], []

    def measured(session) -> dict[str, float]:
        seen.append({name: one.detach().clone() for name, one in session.model.named_parameters() if "lora_" in name})
        return {"loss": losses[len(seen) - 1]}

    monkeypatch.setattr(measure, "evaluate", measured)
    settings = {"optimiser": {"epochs": 1.6}, "evaluation": {"every": 2, "watch": "loss", "keep": "best"}}
    recipe = read_recipe(recipe_file(**settings))
    adapter = train_lora(recipe, lambda _: None)
    about = json.loads((recipe.out / "run.json").read_text())
    assert [row["loss"] for row in about["evaluations"]] == losses
    kept = load_file(adapter / "adapter_model.safetensors")
    assert kept
    for name, values in kept.items():
        theirs = name.replace("lora_A", "lora_A.default").replace("lora_B", "lora_B.default")
        assert torch.equal(values, seen[2][theirs])
    assert not all(torch.equal(seen[2][name], seen[4][name]) for name in seen[2])
    assert "| 4 | 1.0000 | – | – | best |" in (recipe.out / "report.md").read_text()


@pytest.mark.parametrize("parts", [{}, {"image_tower": {"rank": 1, "alpha": 1}, "projector": {"full": True}}])
def test_arithmetic_counted_is_torchs_own_count(session, parts) -> None:
    """One conversation forward and backward. Torch also counts the attention that is masked; it leaves out the way
    back below the first trained matrix, a few hundredths here."""
    from torch.utils.flop_counter import FlopCounterMode

    from facellm_training.lora.collate import packed

    made = session(language={"rank": 1}, speed={"attention": "eager"}, **parts)
    part = made.corpus.train
    batch = packed(
        [[(part.encoded[0].ids, part.encoded[0].labels)]], [made.tiles(image) for image in part.conversations[0].images]
    )
    with FlopCounterMode(display=False) as counter:
        made.loss(batch).backward()
    length, loud = len(part.encoded[0]), int((part.encoded[0].labels != SILENT).sum())
    needed = work(made.model)
    masked = needed.pair * length * (length - 1) / 2
    assert needed.of([length], loud, 1) + masked == pytest.approx(counter.get_total_flops(), rel=0.04)


@pytest.mark.parametrize(
    ("device", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4), ("NVIDIA H100 PCIe", 756), ("NVIDIA H100 NVL", 835), ("NVIDIA H200", 989.4),
        ("NVIDIA H200 NVL", 835.5), ("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA L40S", 362), ("NVIDIA L4", 121), ("NVIDIA GeForce RTX 4090", 165.2), ("NVIDIA GeForce RTX 3090", 71),
    ],
)  # fmt: skip
def test_peaks_are_found_by_the_devices_name(device, tera) -> None:
    found = peak(device)
    assert found is not None and found[0] == pytest.approx(tera * 1e12)


@pytest.mark.parametrize(
    "device",
    [
        "CPU", "NVIDIA L40", "NVIDIA A10G", "NVIDIA GH200 480GB", "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 4090 D", "NVIDIA GeForce RTX 3090 Ti",
    ],
)  # fmt: skip
def test_an_unknown_or_shared_card_has_no_peak(device) -> None:
    assert peak(device) is None
