"""Tokenizers are proven by llama.cpp itself: it must cut hard texts into the very ids that transformers gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
from gguf import TokenType

from facellm_converters.tokenizer.vocabulary import read_vocabulary
from tests.converters.conftest import QWEN_ROWS, TokenizerCopy
from tests.converters.tokenizers import (
    HARD_TEXTS,
    LLAVA_MARKED,
    LLAVA_TEMPLATE,
    MARKED,
    QWEN_TEMPLATE,
    as_published,
    llama_tokenizer,
    loaded,
)

pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
llama_cpp = pytest.importorskip("llama_cpp")


def wanted(folder: Path, text: str, ends: bool = True) -> list[int]:
    whole = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids: list[int] = whole.encode(text, add_special_tokens=ends).ids
    return ids


def test_llama_cpp_cuts_hard_texts_as_qwen_does(qwen_words: Path, tmp_path: Path) -> None:
    with loaded(read_vocabulary(qwen_words, QWEN_ROWS), tmp_path / "v.gguf", "qwen2") as model:
        different = [text for text in (*HARD_TEXTS, *MARKED) if model.ids(text) != wanted(qwen_words, text)]
        assert not different
        assert [model.text(model.ids(text)) for text in (*HARD_TEXTS, *MARKED)] == [*HARD_TEXTS, *MARKED]


def test_llama_cpp_cuts_a_prompt_as_transformers_does(qwen_words: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(qwen_words)
    prompt = reference.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Is she smiling?"}]}],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert "<IMG_CONTEXT>\nIs she" in prompt
    with loaded(read_vocabulary(qwen_words, QWEN_ROWS), tmp_path / "v.gguf", "qwen3") as model:
        assert model.ids(prompt) == reference(prompt).input_ids


def test_llama_cpp_cuts_hard_texts_as_published_llava_does(tokenizer_copy: TokenizerCopy, tmp_path: Path) -> None:
    folder = tokenizer_copy("llava")
    as_published(folder)
    with loaded(read_vocabulary(folder, 832), tmp_path / "v.gguf", "llama") as model:
        different = [text for text in (*HARD_TEXTS, *LLAVA_MARKED) if model.ids(text) != wanted(folder, text)]
        assert not different
        assert model.text(model.ids("Größe 😀\n", ends=False)) == " Größe 😀\n"


def test_as_transformers_5_saves_llava_only_a_leading_space_is_cut_otherwise(
    tokenizer_copy: TokenizerCopy, tmp_path: Path
) -> None:
    """It puts no second space before a space; llama.cpp does, as the published tokenizer does."""
    folder = tokenizer_copy("llava")
    vocabulary = read_vocabulary(folder, 832)
    with loaded(vocabulary, tmp_path / "v.gguf", "llama") as model:
        texts = [*HARD_TEXTS, *LLAVA_MARKED]
        different = [text for text in texts if model.ids(text) != wanted(folder, text)]
        assert different == [
            text for text in texts if text[0] in " ▁" or any(mark in text for mark in ("<s> ", "</s> "))
        ]
    as_published(folder)
    assert read_vocabulary(folder, 832) == vocabulary


def test_without_legacy_llama_cpp_still_puts_a_space_after_the_picture(tmp_path: Path) -> None:
    """transformers 5's default for new tokenizers puts none; llama.cpp has no such mode."""
    llama_tokenizer(tmp_path, 800, legacy=False)
    vocabulary = read_vocabulary(tmp_path, 800)
    with loaded(vocabulary, tmp_path / "v.gguf", "llama") as model:
        assert not [text for text in HARD_TEXTS if text[0] not in " ▁" and model.ids(text) != wanted(tmp_path, text)]
        prompt = "USER: <image>\nWhat is it? ASSISTANT:"
        ids, there = model.ids(prompt), wanted(tmp_path, prompt)
        after = there.index(798) + 1
        assert ids == [*there[:after], vocabulary.tokens.index("▁"), *there[after:]]


def test_generation_ends_at_the_end_of_a_turn(qwen_words: Path, tmp_path: Path) -> None:
    with loaded(read_vocabulary(qwen_words, QWEN_ROWS), tmp_path / "v.gguf", "qwen2") as model:
        assert llama_cpp.llama_vocab_eos(model.vocab) == 996
        assert llama_cpp.llama_vocab_is_eog(model.vocab, 996)
        assert not llama_cpp.llama_vocab_is_eog(model.vocab, 995)
        assert llama_cpp.llama_vocab_pad(model.vocab) == 994
        assert not llama_cpp.llama_vocab_get_add_bos(model.vocab)
        assert not llama_cpp.llama_vocab_get_add_eos(model.vocab)


def test_a_vocabulary_of_qwens_kind_is_written_whole(qwen_words: Path) -> None:
    found = read_vocabulary(qwen_words, QWEN_ROWS)
    assert (found.model, found.pre, found.add_space_prefix, found.scores) == ("gpt2", "qwen2", False, ())
    assert found.tokens[994:1002] == (
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<img>",
        "</img>",
        "<IMG_CONTEXT>",
        "[PAD1000]",
        "[PAD1001]",
    )
    assert len(found.tokens) == len(found.types) == QWEN_ROWS
    assert set(found.types[:994]) == {TokenType.NORMAL}
    assert set(found.types[994:1000]) == {TokenType.CONTROL}
    assert set(found.types[1000:]) == {TokenType.UNUSED}
    assert len(found.merges) == 994 - 256
    assert found.chat_template == QWEN_TEMPLATE


def test_a_vocabulary_of_llavas_kind_is_written_whole(llava_words: Path) -> None:
    found = read_vocabulary(llava_words, 832)
    assert (found.model, found.pre, found.add_space_prefix, found.merges) == ("llama", "default", True, ())
    assert found.tokens[:4] == ("<unk>", "<s>", "</s>", "<0x00>")
    assert found.types[:3] == (TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL)
    assert set(found.types[3:259]) == {TokenType.BYTE}
    assert set(found.types[259:798]) == {TokenType.NORMAL}
    assert found.types[798:801] == (TokenType.CONTROL, TokenType.CONTROL, TokenType.UNUSED)
    pieces = [found.scores[index] for index in range(259, 798) if len(found.tokens[index]) > 1]
    assert pieces == sorted(set(pieces), reverse=True)
    assert found.special.ids == {"bos": 1, "eos": 2, "unk": 0, "pad": 799}
    assert (found.special.add_bos, found.special.add_eos) == (True, False)
    assert found.chat_template == LLAVA_TEMPLATE


def test_the_special_tokens_are_those_that_llama_cpps_converter_finds(tokenizer_copy: TokenizerCopy) -> None:
    for name, size in (("qwen", QWEN_ROWS), ("llava", 832)):
        folder = tokenizer_copy(name, "config.json", lambda config: config.update(text_config={"bos_token_id": 3}))
        peer = gguf.SpecialVocab(folder, load_merges=name == "qwen", n_vocab=size)
        ours = read_vocabulary(folder, size)
        assert ours.special.ids == peer.special_token_ids
        assert ours.special.add_bos == peer.add_special_token.get("bos", False)
        assert list(ours.merges) == peer.merges
        assert ours.chat_template == peer.chat_template


def test_added_tokens_are_control_or_the_users(tokenizer_copy: TokenizerCopy) -> None:
    def add(tokenizer: dict[str, Any]) -> None:
        for index, text, special in ((1000, "<think>", False), (1001, "<|tool|>", False), (1002, "▁x▁", False)):
            like = tokenizer["added_tokens"][0]
            tokenizer["added_tokens"].append({**like, "id": index, "content": text, "special": special})

    found = read_vocabulary(tokenizer_copy("qwen", change=add), QWEN_ROWS)
    assert found.tokens[1000:1003] == ("<think>", "<|tool|>", " x ")
    assert found.types[1000:1003] == (TokenType.USER_DEFINED, TokenType.CONTROL, TokenType.USER_DEFINED)


def test_added_tokens_of_tokenizer_config_count(tokenizer_copy: TokenizerCopy) -> None:
    entry = {"content": "<ref>", "special": True, "lstrip": False, "rstrip": False, "single_word": False}
    folder = tokenizer_copy(
        "qwen", "tokenizer_config.json", lambda config: config.update(added_tokens_decoder={"1000": entry})
    )
    found = read_vocabulary(folder, QWEN_ROWS)
    assert (found.tokens[1000], found.types[1000]) == ("<ref>", TokenType.CONTROL)


def test_the_lists_that_opengvlab_publishes_give_the_same_vocabulary(qwen_words: Path, tmp_path: Path) -> None:
    whole = json.loads((qwen_words / "tokenizer.json").read_text(encoding="utf-8"))
    (tmp_path / "vocab.json").write_text(json.dumps(whole["model"]["vocab"]), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in whole["model"]["merges"]), ""]
    (tmp_path / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    added = {entry["content"]: entry["id"] for entry in whole["added_tokens"]}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added), encoding="utf-8")
    config = json.loads((qwen_words / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["additional_special_tokens"] = ["<|im_start|>", "<img>", "</img>", "<IMG_CONTEXT>"]
    config["chat_template"] = QWEN_TEMPLATE
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    assert read_vocabulary(tmp_path, QWEN_ROWS) == read_vocabulary(qwen_words, QWEN_ROWS)


@pytest.mark.parametrize(
    ("pre_tokenizer", "name"),
    [
        ({"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}, "gpt-2"),
        (
            {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Digits", "individual_digits": True},
                    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
                ],
            },
            "smollm",
        ),
        ("llama 3", "llama-bpe"),
    ],
)
def test_other_ways_to_split_are_named_so_that_llama_cpp_cuts_alike(
    tokenizer_copy: TokenizerCopy, tmp_path: Path, pre_tokenizer: Any, name: str
) -> None:
    def change(tokenizer: dict[str, Any]) -> None:
        tokenizer["normalizer"] = None
        if name == "llama-bpe":
            pattern = tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]
            pattern["Regex"] = pattern["Regex"].replace(r"|\p{N}|", r"|\p{N}{1,3}|")
            tokenizer["model"]["ignore_merges"] = True
        else:
            tokenizer["pre_tokenizer"] = pre_tokenizer

    folder = tokenizer_copy("qwen", change=change)
    found = read_vocabulary(folder, QWEN_ROWS)
    assert found.pre == name
    with loaded(found, tmp_path / "v.gguf", "llama") as model:
        assert not [text for text in (*HARD_TEXTS, *MARKED) if model.ids(text) != wanted(folder, text)]


def test_the_end_is_sought_in_the_configurations_where_the_tokenizer_names_none(tokenizer_copy: TokenizerCopy) -> None:
    folder = tokenizer_copy("qwen", "tokenizer_config.json", lambda config: config.pop("eos_token"))
    tokenizer_copy("qwen", "generation_config.json", lambda config: config.update(eos_token_id=[996, 994]))
    assert read_vocabulary(folder, QWEN_ROWS).special.ids["eos"] == 996
    tokenizer_copy("qwen", "config.json", lambda config: config.update(text_config={"eos_token_id": 994}))
    assert read_vocabulary(folder, QWEN_ROWS).special.ids["eos"] == 994
    tokenizer_copy(
        "qwen", "special_tokens_map.json", lambda config: config.update(eos_token={"content": "<|im_start|>"})
    )
    assert read_vocabulary(folder, QWEN_ROWS).special.ids["eos"] == 995


def test_a_beginning_is_put_where_the_configuration_asks_for_it(tokenizer_copy: TokenizerCopy, tmp_path: Path) -> None:
    folder = tokenizer_copy(
        "qwen", "tokenizer_config.json", lambda config: config.update(bos_token="<|im_start|>", add_bos_token=True)
    )
    with loaded(read_vocabulary(folder, QWEN_ROWS), tmp_path / "v.gguf", "qwen2") as model:
        assert model.ids("hello")[0] == 995


@pytest.mark.parametrize("place", ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"])
def test_the_chat_template_is_found_wherever_it_lies(tokenizer_copy: TokenizerCopy, place: str) -> None:
    folder = tokenizer_copy("qwen")
    (folder / "chat_template.jinja").unlink()
    assert read_vocabulary(folder, QWEN_ROWS).chat_template is None
    if place.endswith(".jinja"):
        (folder / place).write_text("{{ 'ü' }}", encoding="utf-8")
    else:
        tokenizer_copy("qwen", place, lambda value: value.update(chat_template="{{ 'ü' }}"))
    assert read_vocabulary(folder, QWEN_ROWS).chat_template == "{{ 'ü' }}"
