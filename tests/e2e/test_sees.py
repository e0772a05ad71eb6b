"""The finished pair looks at the picture: with another face in its place its answers are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from math import log
from pathlib import Path

import numpy as np
import pytest

from facellm.core.ask import Answer, Question
from facellm.core.package import ModelPackage
from facellm.engine.client import EngineClient

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

GENDER = Question("Is this person male or female?", ("male", "female"))
CHILD = ("0-2", "3-9", "10-19")
AGE = Question(
    "How old does this person look?", (*CHILD, "20-29", "30-39", "40-49", "50-59", "60-69", "70+")
)  # fmt: skip
EACH = 10


@pytest.fixture(scope="module")
def client(nano: ModelPackage) -> Iterator[EngineClient]:
    with EngineClient(nano) as client:
        yield client


@pytest.fixture(scope="module")
def faces(shared_data: Path) -> dict[tuple[str, str], list[np.ndarray]]:
    """The first ten men and women and ten boys and girls of FairFace's validation split, which was never trained on."""
    from facellm_training.data.fairface import AGES, GENDERS, read_fairface

    found: dict[tuple[str, str], list[np.ndarray]] = {(g, a): [] for g in GENDERS for a in ("child", "adult")}
    for item in read_fairface(shared_data / "fairface", "validation"):
        if AGES[item.age] not in ("3-9", "30-39", "40-49"):
            continue
        group = found[GENDERS[item.gender], "child" if AGES[item.age] == "3-9" else "adult"]
        if len(group) < EACH:
            group.append(item.pixels())
        if all(len(group) == EACH for group in found.values()):
            break
    return found


def ask(client: EngineClient, pictures: list[np.ndarray], question: Question) -> list[Answer]:
    return [client.choose((pixels,), [question])[0] for pixels in pictures]


def score(answers: list[Answer], truth: list[str]) -> tuple[float, float]:
    """Accuracy and mean negative log-likelihood of the truth."""
    right = [answer.text == true for answer, true in zip(answers, truth, strict=True)]
    loss = [
        -log(max(1e-9, next(choice.p for choice in answer.choices if choice.text == true)))
        for answer, true in zip(answers, truth, strict=True)
    ]
    return float(np.mean(right)), float(np.mean(loss))


def test_another_face_in_its_place_raises_the_loss_and_drops_the_accuracy(
    client: EngineClient, faces: dict[tuple[str, str], list[np.ndarray]]
) -> None:
    men, women = faces["male", "adult"], faces["female", "adult"]
    truth = ["male"] * EACH + ["female"] * EACH
    seen, loss = score(ask(client, men + women, GENDER), truth)
    swapped, swapped_loss = score(ask(client, women + men, GENDER), truth)
    assert seen >= 0.85 and loss < 0.5
    assert swapped <= 0.15 and swapped_loss > 4 * loss


def test_children_are_told_from_adults(client: EngineClient, faces: dict[tuple[str, str], list[np.ndarray]]) -> None:
    children = faces["male", "child"] + faces["female", "child"]
    adults = faces["male", "adult"] + faces["female", "adult"]
    young = [answer.text in CHILD for answer in ask(client, children + adults, AGE)]
    assert np.mean(young[: len(children)]) >= 0.9
    assert np.mean(young[len(children) :]) <= 0.1


def test_options_may_stand_in_any_order(client: EngineClient, faces: dict[tuple[str, str], list[np.ndarray]]) -> None:
    """The letter follows the option: the answer is read from the options, not from a habit of places."""
    turned = Question(GENDER.text, GENDER.choices[::-1])
    pictures = faces["male", "adult"] + faces["female", "adult"]
    first, second = (ask(client, pictures, question) for question in (GENDER, turned))
    same = [a.text == b.text for a, b in zip(first, second, strict=True)]
    assert np.mean(same) >= 0.9
