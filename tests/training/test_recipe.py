"""The shipped recipe can be read, and a wrong one says which key is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed (python3 run.py setup training)")

from facellm_training.nano.recipe import read_recipe
from facellm_training.recipe import RecipeError

ROOT = Path(__file__).resolve().parents[2]


def test_the_shipped_recipe_can_be_read() -> None:
    recipe = read_recipe(ROOT / "training" / "recipes" / "nano.yaml")
    assert recipe.image.first_block == recipe.cache.split_block
    assert 0 < recipe.language.plain_share < 1
    assert recipe.words.pictures > 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: a\nout: b\nlanguage: {pictures: 1, picturez: 2}", "picturez"),
        ("data: a", "needs out"),
        ("data: a\nout: b\nthreads: [2]", "threads is a whole number"),
        ("data: [", "not valid YAML"),
        ("data: a\nout: b\nimage: {first_block: 3}", "first_block must equal"),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    assert said in str(caught.value)
