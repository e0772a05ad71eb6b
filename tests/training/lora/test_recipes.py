"""The recipes that are shipped can be read, the paper's are the paper's, and slips are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from facellm_training.lora.bases import BaseError, geometry
from facellm_training.lora.model import load_base
from facellm_training.lora.recipe import KIND, NANO, read_recipe, recipe_kind
from facellm_training.recipe import RecipeError
from facellm_training.release.run import check_kinds
from tests.training.lora import tiny


@pytest.fixture
def shipped(project_root) -> Path:
    return project_root / "training" / "recipes"


@pytest.mark.parametrize(("size", "batch"), [("1b", 80), ("8b", 80), ("38b", 12)])
def test_the_papers_recipes_are_the_papers(shipped, size, batch) -> None:
    recipe = read_recipe(shipped / f"facellm-paper-{size}.yaml")
    assert recipe.base == f"OpenGVLab/InternVL3-{size.upper()}-hf"
    assert (recipe.language.rank, recipe.language.alpha, recipe.language.lr) == (16, 32.0, 1e-5)
    assert (recipe.image_tower.rank, recipe.projector.rank, recipe.projector.full) == (0, 0, False)
    settings = recipe.optimiser
    assert (settings.batch, settings.epochs, settings.warm_up, settings.final_share) == (batch, 1.0, 0.0, 0.0)
    assert (recipe.data.max_tokens, recipe.dropout, recipe.speed.precision) == (2048, 0.0, "bf16")
    assert recipe.evaluation.keep == "last"


def test_every_recipe_is_read(shipped) -> None:
    names = {path.stem for path in shipped.glob("facellm-*.yaml")}
    own = {f"facellm-{kind}{size}" for kind in ("", "paper-") for size in ("1b", "38b", "8b")}
    assert names == {*own, "facellm-nano-lora"}
    for name in names:
        assert recipe_kind(shipped / f"{name}.yaml") == KIND
        recipe = read_recipe(shipped / f"{name}.yaml")
        assert recipe.base.endswith("-hf") if name in own else recipe.base == NANO
        check_kinds(recipe)
    assert recipe_kind(shipped / "nano.yaml") == "nano"


def test_every_fsdp_configuration_is_accelerates(shipped) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    files = sorted(shipped.glob("fsdp-*.yaml"))
    assert len(files) >= 2
    for file in files:
        found = load_config_from_file(str(file))
        assert found.fsdp_config["fsdp_version"] == 2
        assert found.mixed_precision == "bf16"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"optimizer": {}}, "no setting optimizer"),
        ({"optimiser": {"bath": 3}}, "no setting bath"),
        ({"optimiser": {"batch": 0}}, r"optimiser\.batch is 0"),
        ({"optimiser": {"batch": 2.5}}, "whole number"),
        ({"language": {"lr": "fast"}}, "is a number"),
        ({"language": {"rank": 4, "alpha": 0}}, "alpha 0"),
        ({"language": {"rank": 0}}, "Every rank is 0"),
        ({"projector": {"full": True, "rank": 4, "alpha": 4}}, "not both"),
        ({"projector": {"full": "maybe"}}, "true or false"),
        ({"speed": {"row_tokens": 100}}, "would fit into no row"),
        ({"speed": {"precision": "fp8"}}, "may be bf16, fp32"),
        ({"evaluation": {"watch": "luck"}}, "may be loss"),
        ({"base": ""}, "needs base"),
        ({"kind": "nano"}, "of the kind nano"),
    ],
)
def test_slips_are_named(tmp_path, change, said) -> None:
    settings = tiny.recipe(tmp_path, tmp_path, tmp_path / "out", **change)
    with pytest.raises(RecipeError, match=said):
        read_recipe(tiny.written(tmp_path / "r.yaml", settings))


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path) -> None:
    settings = tiny.recipe(tmp_path, tmp_path, tmp_path / "out")
    text = yaml.safe_dump(settings).replace("lr: 0.005", "lr: 1e-5")
    (tmp_path / "r.yaml").write_text(text)
    assert read_recipe(tmp_path / "r.yaml").language.lr == 1e-5


def test_four_bits_without_bitsandbytes_is_an_error(made, recipe_file) -> None:
    import torch

    recipe = read_recipe(recipe_file(speed={"four_bits": True}))
    with pytest.raises(BaseError, match="QLoRA"):
        load_base(made / "qwen2", recipe, torch.device("cpu"))


@pytest.mark.parametrize(
    ("architecture", "hint"),
    [("InternVLChatModel", "ends in -hf"), ("Other", "")],
)
def test_another_layout_says_what_to_take(tmp_path, architecture, hint) -> None:
    (tmp_path / "config.json").write_text(f'{{"architectures": ["{architecture}"]}}')
    with pytest.raises(BaseError, match=architecture) as caught:
        geometry(tmp_path)
    assert hint in caught.value.hint
