"""Tokenizers that llama.cpp has no way for, or that are damaged: each is refused in words that name what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from facellm_converters.errors import BadCheckpoint, ConversionError, Unsupported
from facellm_converters.tokenizer.vocabulary import read_vocabulary
from tests.converters.conftest import QWEN_ROWS, QWEN_SIZE, Change, TokenizerCopy

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")


def test_without_an_end_there_is_no_conversion(tokenizer_copy: TokenizerCopy) -> None:
    folder = tokenizer_copy("qwen", "tokenizer_config.json", lambda config: config.pop("eos_token"))
    with pytest.raises(BadCheckpoint, match="which token ends an answer"):
        read_vocabulary(folder, QWEN_ROWS)


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
    tokenizer_copy: TokenizerCopy, name: str, change: Change, error: type[ConversionError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        read_vocabulary(tokenizer_copy(name, change=change), 1100)
    assert caught.value.hint


def test_more_tokens_than_embeddings_are_refused(qwen_words: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"token 999 \('<IMG_CONTEXT>'\).*for 998 only"):
        read_vocabulary(qwen_words, 998)
    assert len(read_vocabulary(qwen_words, QWEN_SIZE).tokens) == QWEN_SIZE


def test_a_missing_or_damaged_file_is_named(tokenizer_copy: TokenizerCopy, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(BadCheckpoint, match=r"holds no tokenizer\.json"):
        read_vocabulary(empty, QWEN_ROWS)
    (empty / "tokenizer.model").write_bytes(b"\n")
    with pytest.raises(Unsupported, match=r"as tokenizer\.model only") as caught:
        read_vocabulary(empty, QWEN_ROWS)
    assert "save_pretrained" in caught.value.hint
    folder = tokenizer_copy("qwen")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ConversionError, match=name):
            read_vocabulary(folder, QWEN_ROWS)
        (folder / name).write_bytes(whole)


def test_lists_of_another_class_are_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0}', encoding="utf-8")
    (tmp_path / "merges.txt").write_text("", encoding="utf-8")
    with pytest.raises(Unsupported, match="do not say how text is split"):
        read_vocabulary(tmp_path, QWEN_ROWS)
