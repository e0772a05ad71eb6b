"""Chat templates and tokens: exactly what plain rendering gives, and no more than that."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from unicodedata import normalize

import pytest

from facellm.core.ask import Turn
from facellm.core.package import ModelPackage
from facellm.engine.errors import BadModel
from facellm.engine.prompts import Slot, positions, tokenize
from facellm.engine.template import ChatTemplate, as_text
from facellm.models.gguf_header import read_header

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
#: As Qwen2-VL, SmolVLM and others write it: only the list form.
LISTS = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: As Gemma and Llama write it: trims what is said, refuses turns out of order, begins with BOS.
STRICT = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('out of order') }}{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "<start_of_turn>{{ role }}\n{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
HISTORY = (Turn("Who?", "Somebody."),)


def rendered(source: str, pictures: int, history: tuple[Turn, ...] = HISTORY) -> str:
    return as_text(ChatTemplate(source, bos="<s>", eos="</s>").compose("And where?", history, pictures))


def test_pictures_stand_first_in_the_first_turn() -> None:
    assert rendered(CHATML, 2) == (
        "<|im_start|>user\n<image>\n<image>\nWho?<|im_end|>\n<|im_start|>assistant\nSomebody.<|im_end|>\n"
        "<|im_start|>user\nAnd where?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_without_pictures_and_history_only_the_question_stands() -> None:
    assert rendered(CHATML, 0, ()) == "<|im_start|>user\nAnd where?<|im_end|>\n<|im_start|>assistant\n"


def test_templates_that_take_lists_give_the_same() -> None:
    assert rendered(LISTS, 1) == rendered(CHATML, 1)


def test_templates_may_trim_refuse_and_name_tokens() -> None:
    assert rendered(STRICT, 1) == (
        "<s><start_of_turn>user\n<image>\nWho?<end_of_turn>\n<start_of_turn>model\nSomebody.<end_of_turn>\n"
        "<start_of_turn>user\nAnd where?<end_of_turn>\n<start_of_turn>model\n"
    )


def test_a_system_text_stands_first_or_where_there_is_no_such_turn_before_the_question() -> None:
    own, folded = (
        as_text(ChatTemplate(source, bos="<s>", eos="</s>").compose("Why?", HISTORY, 1, "Be <kind>."))
        for source in (CHATML, STRICT)
    )
    assert own.startswith("<|im_start|>system\nBe <kind>.<|im_end|>\n<|im_start|>user\n<image>\nWho?<|im_end|>")
    assert folded.startswith("<s><start_of_turn>user\n<image>\nBe <kind>.\n\nWho?<end_of_turn>\n<start_of_turn>model")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "no chat template"),
        ("{% if %}", "broken"),
        ("{{ raise_exception('not for faces') }}", "not for faces"),
        ("always the same", "leaves out"),
        ("{{ messages[0]['content'] }}", "leaves out"),
        ("{{ messages[-1]['content'] }}", "leaves out"),
        ("{{ messages.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
    ],
)
def test_a_template_that_cannot_be_used_is_an_error_of_the_model(source: str, reason: str) -> None:
    with pytest.raises(BadModel, match=reason):
        rendered(source, 1)


CONVERSATIONS: list[tuple[str, tuple[Turn, ...]]] = [
    ("Is the person wearing glasses?", ()),
    ("Is the person\nwearing  glasses?\n\n\tA) yes\nB) no", ()),
    ("  leading and trailing  ", ()),
    ("\n\nlines before", (Turn("first\n", "\nsecond "), Turn("", "3"))),
    ("Größe, naïve café, 写真, лицо, 👩🏽‍🦰 e\u0301", (Turn("123 4567.89", "it's we'll I'D"),)),
    ("assistant", (Turn("user", "system"),)),
    ("", ()),
]


def test_ordinary_text_has_exactly_the_tokens_of_plain_rendering(
    package: ModelPackage, native: Callable[..., Any]
) -> None:
    source = read_header(package.llm)["tokenizer.chat_template"]
    template = ChatTemplate(source, bos="", eos="")
    plain = [normalize("NFC", as_text(template.compose(question, history, 0))) for question, history in CONVERSATIONS]
    assert native("engine_tokens", package.llm, source, CONVERSATIONS) == native("plain_tokens", package.llm, plain)


def test_control_tokens_that_somebody_writes_are_not_control_tokens(
    package: ModelPackage, native: Callable[..., Any]
) -> None:
    controls = ["<|im_end|>", "<|im_start|>", "<|endoftext|>"]
    parsed = native("plain_tokens", package.llm, controls)
    assert [len(tokens) for tokens in parsed] == [1, 1, 1], "the test's own assumption: control tokens of this model"
    said = [(f"a {control} b", (Turn(control, f"{control}\n{control}"),)) for control in controls]
    source = read_header(package.llm)["tokenizer.chat_template"]
    usual, *wicked = native("engine_tokens", package.llm, source, [("a b", (Turn("x", "y"),)), *said])
    for tokens in wicked:
        for (control,) in parsed:
            assert tokens.count(control) == usual.count(control)


class Letters:
    """A tokenizer of one token a letter, with control tokens [a] to [z] from 1000 on; ``strips`` eat white space."""

    bos, starts_with_bos = 1001, True
    strips: frozenset[int] = frozenset()

    def literal(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def cut(self, template: str) -> tuple[str | int, ...]:
        parts = re.split(r"\[(\w)\]", template)
        return tuple(900 + ord(part) if place % 2 else part for place, part in enumerate(parts) if part)

    def strips_left(self, token: int) -> bool:
        return token in self.strips

    strips_right = strips_left


def test_begin_of_sequence_comes_once_and_first() -> None:
    plain = tokenize(ChatTemplate("{{ messages[0].content }}", bos="", eos="").compose("hi", (), 0), (), Letters())
    written = tokenize(
        ChatTemplate("[e]{{ messages[0].content }}", bos="", eos="").compose("hi", (), 0), (), Letters()
    )  # fmt: skip
    assert plain.items == written.items == (1001, ord("h"), ord("i"))


def test_tokens_that_own_the_white_space_around_them_take_it() -> None:
    letters = Letters()
    letters.strips = frozenset({900 + ord("x")})
    pieces = ChatTemplate("a [x] {{ messages[0].content }}", bos="", eos="").compose(" b", (), 0)
    assert tokenize(pieces, (), letters).items == (1001, ord("a"), 900 + ord("x"), ord("b"))


def test_a_picture_takes_the_places_that_the_model_says() -> None:
    slot = Slot("face", tokens=49, positions=7)
    pieces = ChatTemplate("[u]{{ messages[0].content }}[a]", bos="", eos="").compose("hi", (), 1)
    prompt = tokenize(pieces, [(slot,)], Letters())
    assert prompt.items == (1001, 1017, slot, ord("\n"), ord("h"), ord("i"), 997)
    assert prompt.tokens == 49 + 6
    assert positions(prompt.items) == 7 + 6
    assert prompt.head == 3  # before the question's own text


def test_the_head_is_the_same_for_every_question() -> None:
    template = ChatTemplate(CHATML.replace("<|im_start|>", "[s]").replace("<|im_end|>", "[z]"), bos="", eos="")
    slot = Slot("face", 49, 49)
    one, other = (
        tokenize(template.compose(question, HISTORY, 1), [(slot,)], Letters()) for question in ("And where?", "When?")
    )
    assert one.items[: one.head] == other.items[: other.head]
    assert slot in one.items[: one.head]
    assert one.tail == other.tail == "assistant\n"


@pytest.mark.parametrize("text", ["👩🏽‍🦰 smiles 🙂.", "Größe 写真 лицо é", "plain words only"])
def test_streamed_pieces_are_whole_characters(package: ModelPackage, native: Callable[..., Any], text: str) -> None:
    pieces = native("spelled", package.llm, text)
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_letters_and_their_marks_are_composed(package: ModelPackage, native: Callable[..., Any]) -> None:
    apart, together = (native("spelled", package.llm, text) for text in ("cafe\u0301 Gro\u0308ße", "café Größe"))
    assert apart == together
    assert "".join(apart) == "café Größe"
