"""Packing: what each token may see, where the loss is, and that text is rendered as the engine renders it."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (python3 run.py setup training)")

from facellm_training.data.questions import Sample  # noqa: E402
from facellm_training.nano.sequence import IMAGE_TOKENS, Packer, collate  # noqa: E402


class Letters:
    """One token a character: positions can be read off."""

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}


def packed(*, chain: bool) -> tuple[Packer, Any]:
    packer = Packer(Letters(), (0.5,) * 9)
    samples = [Sample("age", "letters", "Q1", "B", {"A": 0.2}), Sample("smile", "yes/no", "Q2", "Yes.")]
    return packer, packer.pack([0], samples, [3], chain=chain)


def text_of(ids: list[int]) -> str:
    return "".join(map(chr, ids))


def test_questions_do_not_see_each_other_but_all_see_the_picture() -> None:
    packer, item = packed(chain=False)
    batch = collate([item], len(packer.head), pad=0)
    second = batch.prefix + item.block.index(2)
    seen = batch.mask[0, 0, second]
    assert seen[: batch.prefix].all()
    assert not seen[batch.prefix : second].any()
    assert batch.position[0, second] == len(packer.head) + IMAGE_TOKENS
    assert batch.position[0, batch.prefix] == batch.position[0, second]


def test_a_conversation_sees_what_was_said_before() -> None:
    packer, item = packed(chain=True)
    batch = collate([item], len(packer.head), pad=0)
    last = batch.prefix + len(item.ids) - 1
    assert batch.mask[0, 0, last, : last + 1].all()
    assert item.position == list(range(batch.prefix, batch.prefix + len(item.ids)))
    said = text_of(item.ids)
    turns = [("Q1", "B"), ("Q2", "Yes.")]
    rendered = [f"{q}<|im_end|>\n<|im_start|>assistant\n{a}<|im_end|>" for q, a in turns]
    assert said == "\n" + "\n<|im_start|>user\n".join(rendered)


def test_only_answers_carry_loss_and_a_letter_outweighs_its_end_mark() -> None:
    _, item = packed(chain=False)
    said = "".join(chr(token) for token, weight in zip(item.ids, item.weight, strict=True) if weight > 0)
    assert said == "B<|im_end|>Yes.<|im_end|>"
    letter = item.ids.index(ord("B"))
    assert item.weight[letter] == 0.5
    assert item.weight[letter + 1] == pytest.approx(Packer.END_WEIGHT)
    assert item.soft == [(letter, ord("A"), 0.2)]


def test_every_word_of_a_sentence_weighs_the_same_however_long_it_is() -> None:
    packer = Packer(Letters(), (1.0,) * 9)
    item = packer.pack([0], [Sample("detail", "aspect", "Q", "Long text."), Sample("detail", "aspect", "Q", "X.")],
                       [3], chain=False)  # fmt: skip
    weights = {weight for weight in item.weight if weight > 0}
    assert weights == {Packer.WORD_WEIGHT}
    yes = packer.pack([0], [Sample("smile", "yes/no", "Q", "Yes.")], [3], chain=False)
    assert max(yes.weight) == 1.0, "the word that decides"


def test_padding_is_seen_by_nothing_real() -> None:
    packer, long = packed(chain=True)
    _, short = packed(chain=False)
    batch = collate([short, long], len(packer.head), pad=0)
    real = batch.prefix + len(short.ids)
    assert not batch.mask[0, 0, :real, real:].any()
    assert (batch.weight[0, len(short.ids) :] == 0).all()
