"""A checkpoint's vocabulary as llama.cpp needs it: tokens with kinds, merges or scores, and roles."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
from gguf import TokenType

from facellm_converters.errors import BadCheckpoint, Unsupported
from facellm_converters.tokenizer.files import AddedToken, Saved, read_saved
from facellm_converters.tokenizer.special import ChatTemplate, Special, read_special, read_template
from facellm_converters.tokenizer.split import byte_level, check_normalizer, name_of, prefixes_space

#: A piece that stands for one byte, in tokenizers of SentencePiece's kind.
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
#: Added tokens that control the model although their file does not call them special; llama.cpp's converter has
#: the same rule (``does_token_look_special``).
_LOOKS_SPECIAL = re.compile(r"<\|.*\|>|<｜.*｜>|<unused.*>|<pad>|<mask>|<2mass>|\[@BOS@\]", re.DOTALL)
#: What llama.cpp's converter gives tokens that no merge makes.
_ADDED_SCORE = -1000.0
_UNUSED_SCORE = -10000.0


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """``model``: "gpt2" (byte-level BPE, with ``merges``) or "llama" (SentencePiece's kind, with ``scores``).
    ``pre``: llama.cpp's name of the pre-tokenizer. ``tokens``, ``types``: as many as the model has embeddings."""

    model: str
    pre: str
    tokens: tuple[str, ...]
    types: tuple[TokenType, ...]
    scores: tuple[float, ...]
    merges: tuple[str, ...]
    special: Special
    add_space_prefix: bool
    chat_template: ChatTemplate | None

    def write(self, writer: gguf.GGUFWriter) -> None:
        """Add the fields ``tokenizer.*`` to a file of a language model."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        if self.scores:
            writer.add_token_scores(self.scores)
        writer.add_token_types(self.types)
        if self.merges:
            writer.add_token_merges(self.merges)
        for role, add in (
            ("bos", writer.add_bos_token_id),
            ("eos", writer.add_eos_token_id),
            ("unk", writer.add_unk_token_id),
            ("pad", writer.add_pad_token_id),
        ):
            if role in self.special.ids:
                add(self.special.ids[role])
        # Always said: llama.cpp's defaults depend on the kind of vocabulary and on the pre-tokenizer.
        writer.add_add_bos_token(self.special.add_bos)
        writer.add_add_eos_token(self.special.add_eos)
        writer.add_add_space_prefix(self.add_space_prefix)
        if self.chat_template is not None:
            writer.add_chat_template(self.chat_template)


def read_vocabulary(folder: Path, size: int) -> Vocabulary:
    """The vocabulary of the checkpoint in ``folder``. ``size``: rows of the model's table of embeddings; rows
    without a token become unused ones.

    Raises ``BadCheckpoint`` for files that are missing, damaged or at odds with each other or with ``size``;
    ``Unsupported`` for a kind of tokenizer that llama.cpp, or this converter, does not have.
    """
    saved = read_saved(folder)
    texts = _texts(saved, size)
    special = read_special(saved, size)
    if byte_level(saved.steps("pre_tokenizer", "pretokenizers")):
        return _byte_level(saved, texts, special, size)
    return _sentencepiece(saved, texts, special, size)


def _byte_level(saved: Saved, texts: Mapping[int, str], special: Special, size: int) -> Vocabulary:
    check_normalizer(saved.steps("normalizer", "normalizers"))
    pre = name_of(saved.steps("pre_tokenizer", "pretokenizers"))
    # llama.cpp takes whole words from the vocabulary where the pre-tokenizer is Llama 3's, and only there.
    whole_words = bool(saved.model.get("ignore_merges"))
    if whole_words != (pre == "llama-bpe") or saved.model.get("byte_fallback"):
        raise Unsupported(
            f"The tokenizer splits as {pre}, with ignore_merges {whole_words} and byte_fallback "
            f"{bool(saved.model.get('byte_fallback'))}.",
            "llama.cpp has ignore_merges with Llama 3's pre-tokenizer, and no byte_fallback here.",
        )
    types = {index: _type_of_added(saved.added[index]) if index in saved.added else TokenType.NORMAL for index in texts}
    # A space within a piece would be read as the end of it; such pieces never meet a text, whose spaces are Ġ.
    merges = tuple(f"{left.replace(' ', 'Ġ')} {right.replace(' ', 'Ġ')}" for left, right in saved.merges)
    return Vocabulary("gpt2", pre, *_padded(texts, types, size), (), merges, special, False, read_template(saved))


def _sentencepiece(saved: Saved, texts: Mapping[int, str], special: Special, size: int) -> Vocabulary:
    prefix = prefixes_space(saved.steps("normalizer", "normalizers"), saved.steps("pre_tokenizer", "pretokenizers"))
    bytes_there = {text for text in saved.pieces if _BYTE.fullmatch(text)}
    if not saved.model.get("byte_fallback") or len(bytes_there) != 256 or saved.model.get("ignore_merges"):
        raise Unsupported(
            f"The tokenizer is of SentencePiece's kind with {len(bytes_there)} of 256 byte pieces, byte_fallback "
            f"{bool(saved.model.get('byte_fallback'))}, ignore_merges {bool(saved.model.get('ignore_merges'))}.",
            "llama.cpp needs all bytes and byte_fallback, and has no ignore_merges here.",
        )
    unknown = saved.pieces.get(str(saved.model.get("unk_token")), special.ids.get("unk"))
    types, scores = {}, [_UNUSED_SCORE] * size
    ranks = _ranks(saved)
    for index, text in texts.items():
        if index in saved.added or index == unknown:
            types[index] = TokenType.UNKNOWN if index == unknown else _type_of_added(saved.added[index])
            scores[index] = _ADDED_SCORE
        elif _BYTE.fullmatch(text):
            types[index], scores[index] = TokenType.BYTE, 0.0
        else:
            types[index] = TokenType.NORMAL
            scores[index] = -float(ranks.get(text, len(saved.merges)))
    return Vocabulary(
        "llama", "default", *_padded(texts, types, size), tuple(scores), (), special, prefix, read_template(saved)
    )


def _ranks(saved: Saved) -> dict[str, int]:
    """Piece → its first merge. SentencePiece, and llama.cpp after it, merges next what makes the piece of the highest
    score; the merges in tokenizer.json come from these scores in their order, so the order gives them back."""
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(saved.merges):
        ranks.setdefault(left + right, rank)
    return ranks


def _type_of_added(token: AddedToken) -> TokenType:
    return TokenType.CONTROL if token.special or _LOOKS_SPECIAL.fullmatch(token.text) else TokenType.USER_DEFINED


def _texts(saved: Saved, size: int) -> dict[int, str]:
    """Id → text. Raises ``BadCheckpoint`` where two tokens claim one id, one text has two, or ids exceed ``size``."""
    texts = {index: text for text, index in saved.pieces.items()}
    if len(texts) != len(saved.pieces):
        raise BadCheckpoint(
            f"The tokenizer gives {len(saved.pieces) - len(texts)} ids to more than one piece.", "Fetch it again."
        )
    for index, token in saved.added.items():
        if texts.get(index, token.text) != token.text or saved.pieces.get(token.text, index) != index:
            raise BadCheckpoint(
                f"The added token {token.text!r} has the id {index}, and the vocabulary says otherwise.",
                "The tokenizer's files are of different checkpoints: fetch them again.",
            )
        texts[index] = token.text
    highest = max(texts)
    if highest >= size:
        raise BadCheckpoint(
            f"The tokenizer has token {highest} ({texts[highest]!r}), but the model has embeddings for {size:,} only.",
            "Tokenizer and weights are of different checkpoints, or tokens were added without resizing the model.",
        )
    return texts


def _padded(
    texts: Mapping[int, str], types: Mapping[int, TokenType], size: int
) -> tuple[tuple[str, ...], tuple[TokenType, ...]]:
    """Raises ``BadCheckpoint`` for a text that two tokens have, at which llama.cpp would abort the process."""
    tokens = []
    for index in range(size):
        text = texts.get(index, f"[PAD{index}]")
        # llama.cpp compares such tokens with text whose spaces are spaces still.
        tokens.append(text.replace("▁", " ") if types.get(index) == TokenType.USER_DEFINED else text)
    if len(set(tokens)) != len(tokens):
        twice, _ = Counter(tokens).most_common(1)[0]
        raise BadCheckpoint(f"The tokenizer has more than one token {twice!r}.", "Save the tokenizer again.")
    try:
        "".join(tokens).encode()
    except UnicodeEncodeError as error:
        raise BadCheckpoint(f"A token of the tokenizer is no text: {error}.", "Fetch it again.") from error
    return tuple(tokens), tuple(types.get(index, TokenType.UNUSED) for index in range(size))
