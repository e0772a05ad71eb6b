"""Tokenizers are proven by llama.cpp itself: it must cut hard texts into the very ids that transformers gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
from gguf import TokenType

from facellm_converters.errors import BadCheckpoint, ConversionError, Unsupported
from facellm_converters.tokenizer.vocabulary import read_vocabulary
from tests.converters.tokenizers import (
    HARD_TEXTS,
    LLAVA_MARKED,
    LLAVA_TEMPLATE,
    MARKED,
    QWEN_TEMPLATE,
    as_published,
    llama_tokenizer,
    loaded,
    qwen_tokenizer,
)

pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
llama_cpp = pytest.importorskip("llama_cpp")

Change = Callable[[dict[str, Any]], Any]
Copied = Callable[..., Path]

SIZE = 1000
#: More rows than tokens, as InternVL has.
ROWS = 1040


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen")
    qwen_tokenizer(folder, SIZE)
    return folder


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava")
    llama_tokenizer(folder, 800)
    return folder


@pytest.fixture
def copied(qwen: Path, llava: Path, tmp_path: Path) -> Copied:
    """A copy of ``name`` with fields of one of its files changed."""
    kinds = {"qwen": qwen, "llava": llava}

    def copy(name: str, file: str = "tokenizer.json", change: Change | None = None) -> Path:
        folder = tmp_path / name
        if not folder.is_dir():
            folder.mkdir()
            for path in kinds[name].iterdir():
                (folder / path.name).write_bytes(path.read_bytes())
        if change is not None:
            path = folder / file
            value = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            change(value)
            path.write_text(json.dumps(value), encoding="utf-8")
        return folder

    return copy


def wanted(folder: Path, text: str, ends: bool = True) -> list[int]:
    whole = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids: list[int] = whole.encode(text, add_special_tokens=ends).ids
    return ids


def test_llama_cpp_cuts_hard_texts_as_qwen_does(qwen: Path, tmp_path: Path) -> None:
    with loaded(read_vocabulary(qwen, ROWS), tmp_path / "v.gguf", "qwen2") as model:
        different = [text for text in (*HARD_TEXTS, *MARKED) if model.ids(text) != wanted(qwen, text)]
        assert not different
        assert [model.text(model.ids(text)) for text in (*HARD_TEXTS, *MARKED)] == [*HARD_TEXTS, *MARKED]


def test_llama_cpp_cuts_a_prompt_as_transformers_does(qwen: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(qwen)
    prompt = reference.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Is she smiling?"}]}],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert "<IMG_CONTEXT>\nIs she" in prompt
    with loaded(read_vocabulary(qwen, ROWS), tmp_path / "v.gguf", "qwen3") as model:
        assert model.ids(prompt) == reference(prompt).input_ids


def test_llama_cpp_cuts_hard_texts_as_published_llava_does(copied: Copied, tmp_path: Path) -> None:
    folder = copied("llava")
    as_published(folder)
    with loaded(read_vocabulary(folder, 832), tmp_path / "v.gguf", "llama") as model:
        different = [text for text in (*HARD_TEXTS, *LLAVA_MARKED) if model.ids(text) != wanted(folder, text)]
        assert not different
        assert model.text(model.ids("Größe 😀\n", ends=False)) == " Größe 😀\n"


def test_as_transformers_5_saves_llava_only_a_leading_space_is_cut_otherwise(copied: Copied, tmp_path: Path) -> None:
    """It puts no second space before a space; llama.cpp does, as the published tokenizer does."""
    folder = copied("llava")
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


def test_generation_ends_at_the_end_of_a_turn(qwen: Path, tmp_path: Path) -> None:
    with loaded(read_vocabulary(qwen, ROWS), tmp_path / "v.gguf", "qwen2") as model:
        assert llama_cpp.llama_vocab_eos(model.vocab) == 996
        assert llama_cpp.llama_vocab_is_eog(model.vocab, 996)
        assert not llama_cpp.llama_vocab_is_eog(model.vocab, 995)
        assert llama_cpp.llama_vocab_pad(model.vocab) == 994
        assert not llama_cpp.llama_vocab_get_add_bos(model.vocab)
        assert not llama_cpp.llama_vocab_get_add_eos(model.vocab)


def test_a_vocabulary_of_qwens_kind_is_written_whole(qwen: Path) -> None:
    found = read_vocabulary(qwen, ROWS)
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
    assert len(found.tokens) == len(found.types) == ROWS
    assert set(found.types[:994]) == {TokenType.NORMAL}
    assert set(found.types[994:1000]) == {TokenType.CONTROL}
    assert set(found.types[1000:]) == {TokenType.UNUSED}
    assert len(found.merges) == 994 - 256
    assert found.chat_template == QWEN_TEMPLATE


def test_a_vocabulary_of_llavas_kind_is_written_whole(llava: Path) -> None:
    found = read_vocabulary(llava, 832)
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


def test_the_special_tokens_are_those_that_llama_cpps_converter_finds(copied: Copied) -> None:
    for name, size in (("qwen", ROWS), ("llava", 832)):
        folder = copied(name, "config.json", lambda config: config.update(text_config={"bos_token_id": 3}))
        peer = gguf.SpecialVocab(folder, load_merges=name == "qwen", n_vocab=size)
        ours = read_vocabulary(folder, size)
        assert ours.special.ids == peer.special_token_ids
        assert ours.special.add_bos == peer.add_special_token.get("bos", False)
        assert list(ours.merges) == peer.merges
        assert ours.chat_template == peer.chat_template


def test_added_tokens_are_control_or_the_users(copied: Copied) -> None:
    def add(tokenizer: dict[str, Any]) -> None:
        for index, text, special in ((1000, "<think>", False), (1001, "<|tool|>", False), (1002, "▁x▁", False)):
            like = tokenizer["added_tokens"][0]
            tokenizer["added_tokens"].append({**like, "id": index, "content": text, "special": special})

    found = read_vocabulary(copied("qwen", change=add), ROWS)
    assert found.tokens[1000:1003] == ("<think>", "<|tool|>", " x ")
    assert found.types[1000:1003] == (TokenType.USER_DEFINED, TokenType.CONTROL, TokenType.USER_DEFINED)


def test_added_tokens_of_tokenizer_config_count(copied: Copied) -> None:
    entry = {"content": "<ref>", "special": True, "lstrip": False, "rstrip": False, "single_word": False}
    folder = copied("qwen", "tokenizer_config.json", lambda config: config.update(added_tokens_decoder={"1000": entry}))
    found = read_vocabulary(folder, ROWS)
    assert (found.tokens[1000], found.types[1000]) == ("<ref>", TokenType.CONTROL)


def test_the_lists_that_opengvlab_publishes_give_the_same_vocabulary(qwen: Path, tmp_path: Path) -> None:
    whole = json.loads((qwen / "tokenizer.json").read_text(encoding="utf-8"))
    (tmp_path / "vocab.json").write_text(json.dumps(whole["model"]["vocab"]), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in whole["model"]["merges"]), ""]
    (tmp_path / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    added = {entry["content"]: entry["id"] for entry in whole["added_tokens"]}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added), encoding="utf-8")
    config = json.loads((qwen / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["additional_special_tokens"] = ["<|im_start|>", "<img>", "</img>", "<IMG_CONTEXT>"]
    config["chat_template"] = QWEN_TEMPLATE
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    assert read_vocabulary(tmp_path, ROWS) == read_vocabulary(qwen, ROWS)


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
    copied: Copied, tmp_path: Path, pre_tokenizer: Any, name: str
) -> None:
    def change(tokenizer: dict[str, Any]) -> None:
        tokenizer["normalizer"] = None
        if name == "llama-bpe":
            pattern = tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]
            pattern["Regex"] = pattern["Regex"].replace(r"|\p{N}|", r"|\p{N}{1,3}|")
            tokenizer["model"]["ignore_merges"] = True
        else:
            tokenizer["pre_tokenizer"] = pre_tokenizer

    folder = copied("qwen", change=change)
    found = read_vocabulary(folder, ROWS)
    assert found.pre == name
    with loaded(found, tmp_path / "v.gguf", "llama") as model:
        assert not [text for text in (*HARD_TEXTS, *MARKED) if model.ids(text) != wanted(folder, text)]


def test_the_end_is_sought_in_the_configurations_where_the_tokenizer_names_none(copied: Copied) -> None:
    folder = copied("qwen", "tokenizer_config.json", lambda config: config.pop("eos_token"))
    copied("qwen", "generation_config.json", lambda config: config.update(eos_token_id=[996, 994]))
    assert read_vocabulary(folder, ROWS).special.ids["eos"] == 996
    copied("qwen", "config.json", lambda config: config.update(text_config={"eos_token_id": 994}))
    assert read_vocabulary(folder, ROWS).special.ids["eos"] == 994
    copied("qwen", "special_tokens_map.json", lambda config: config.update(eos_token={"content": "<|im_start|>"}))
    assert read_vocabulary(folder, ROWS).special.ids["eos"] == 995


def test_without_an_end_there_is_no_conversion(copied: Copied) -> None:
    folder = copied("qwen", "tokenizer_config.json", lambda config: config.pop("eos_token"))
    with pytest.raises(BadCheckpoint, match="which token ends an answer"):
        read_vocabulary(folder, ROWS)


def test_a_beginning_is_put_where_the_configuration_asks_for_it(copied: Copied, tmp_path: Path) -> None:
    folder = copied(
        "qwen", "tokenizer_config.json", lambda config: config.update(bos_token="<|im_start|>", add_bos_token=True)
    )
    with loaded(read_vocabulary(folder, ROWS), tmp_path / "v.gguf", "qwen2") as model:
        assert model.ids("hello")[0] == 995


@pytest.mark.parametrize("place", ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"])
def test_the_chat_template_is_found_wherever_it_lies(copied: Copied, place: str) -> None:
    folder = copied("qwen")
    (folder / "chat_template.jinja").unlink()
    assert read_vocabulary(folder, ROWS).chat_template is None
    if place.endswith(".jinja"):
        (folder / place).write_text("{{ 'ü' }}", encoding="utf-8")
    else:
        copied("qwen", place, lambda value: value.update(chat_template="{{ 'ü' }}"))
    assert read_vocabulary(folder, ROWS).chat_template == "{{ 'ü' }}"


def _set(part: str, **fields: Any) -> Change:
    return lambda tokenizer: tokenizer[part].update(fields)


def _pattern(tokenizer: dict[str, Any]) -> None:
    tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\d{1,5}|\w+"


def _two_ids(tokenizer: dict[str, Any]) -> None:
    tokenizer["added_tokens"][3]["id"] = 1001
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][3], "id": 1002})


@pytest.mark.parametrize(
    ("name", "change", "error", "words"),
    [
        ("qwen", _pattern, Unsupported, r"split by \\d\{1,5\}\|\\w\+"),
        ("qwen", lambda t: t.update(pre_tokenizer={"type": "Whitespace"}), Unsupported, "Whitespace"),
        ("qwen", lambda t: t.update(normalizer={"type": "Lowercase"}), Unsupported, "Lowercase"),
        ("qwen", _set("model", type="Unigram"), Unsupported, "Unigram"),
        ("qwen", _set("model", end_of_word_suffix="</w>"), Unsupported, "</w>"),
        ("qwen", _set("model", ignore_merges=True), Unsupported, "ignore_merges True"),
        ("qwen", _set("model", vocab={}), BadCheckpoint, "no vocabulary"),
        ("qwen", _set("model", merges=[["x"]]), BadCheckpoint, "no pair"),
        ("qwen", _set("model", merges=[["q", "qqqq"]]), BadCheckpoint, "no piece of its own"),
        ("qwen", lambda t: t["model"]["vocab"].update({"th": 5}), BadCheckpoint, "more than one piece"),
        ("qwen", lambda t: t["model"]["vocab"].update({"th": "5"}), BadCheckpoint, "the id '5'"),
        ("qwen", lambda t: t["model"]["vocab"].update({"\ud800": 1003}), BadCheckpoint, "no text"),
        ("qwen", lambda t: t["added_tokens"][0].update(id=3), BadCheckpoint, "says otherwise"),
        ("qwen", lambda t: t["added_tokens"][0].update(rstrip=True), Unsupported, "spaces beside"),
        ("qwen", lambda t: t["added_tokens"][0].pop("id"), BadCheckpoint, "no id"),
        ("qwen", _two_ids, BadCheckpoint, "more than one token '<img>'"),
        ("qwen", lambda t: t.pop("model"), BadCheckpoint, "no model"),
        ("qwen", lambda t: t.update(post_processor={"type": "RobertaProcessing"}), Unsupported, "RobertaProcessing"),
        ("llava", _set("pre_tokenizer", split=True), Unsupported, "treats spaces"),
        ("llava", _set("model", byte_fallback=False), Unsupported, "byte_fallback False"),
        ("llava", lambda t: t["model"]["vocab"].pop("<0x0A>"), Unsupported, "255 of 256"),
        (
            "llava",
            lambda t: t["post_processor"]["single"][0]["SpecialToken"].update(id="</s>"),
            Unsupported,
            "not its bos token",
        ),
    ],
)
def test_what_llama_cpp_cannot_do_or_a_damaged_tokenizer_is_refused(
    copied: Copied, name: str, change: Change, error: type[ConversionError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        read_vocabulary(copied(name, change=change), 1100)
    assert caught.value.hint


def test_more_tokens_than_embeddings_are_refused(qwen: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"token 999 \('<IMG_CONTEXT>'\).*for 998 only"):
        read_vocabulary(qwen, 998)
    assert len(read_vocabulary(qwen, SIZE).tokens) == SIZE


def test_a_missing_or_damaged_file_is_named(copied: Copied, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(BadCheckpoint, match=r"holds no tokenizer\.json"):
        read_vocabulary(empty, ROWS)
    (empty / "tokenizer.model").write_bytes(b"\n")
    with pytest.raises(Unsupported, match=r"as tokenizer\.model only") as caught:
        read_vocabulary(empty, ROWS)
    assert "save_pretrained" in caught.value.hint
    folder = copied("qwen")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ConversionError, match=name):
            read_vocabulary(folder, ROWS)
        (folder / name).write_bytes(whole)


def test_lists_of_another_class_are_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0}', encoding="utf-8")
    (tmp_path / "merges.txt").write_text("", encoding="utf-8")
    with pytest.raises(Unsupported, match="do not say how text is split"):
        read_vocabulary(tmp_path, ROWS)
