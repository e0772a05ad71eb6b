"""Text to token ids and back, so that what a person writes can never act as a control token."""

from __future__ import annotations

import ctypes
import re
from functools import lru_cache
from typing import Any
from unicodedata import normalize

import llama_cpp

_CONTROL = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN


class Vocabulary:
    """The tokenizer inside a loaded language model."""

    def __init__(self, model: Any) -> None:
        self._vocabulary = llama_cpp.llama_model_get_vocab(model)
        self.size = int(llama_cpp.llama_vocab_n_tokens(self._vocabulary))
        self.bos = int(llama_cpp.llama_vocab_bos(self._vocabulary))
        self.eos = int(llama_cpp.llama_vocab_eos(self._vocabulary))
        self.starts_with_bos = bool(llama_cpp.llama_vocab_get_add_bos(self._vocabulary)) and self.bos >= 0
        self._cut = lru_cache(maxsize=64)(self._cut_anew)

    def literal(self, text: str) -> list[int]:
        """Token ids of ``text`` taken literally: control tokens spelled out in it stay ordinary words.

        Letters and their marks are composed first (NFC). Qwen's tokenizers do so and llama.cpp does not; macOS gives
        file names and some input methods letters with the marks apart, which no model has met often.
        """
        return self._tokenize(normalize("NFC", text), special=False)

    def cut(self, template: str) -> tuple[str | int, ...]:
        """A piece of rendered template as runs of ordinary text (str) and control tokens (int) in order."""
        return self._cut(template)

    def text(self, token: int) -> str:
        """How the vocabulary spells a token, also a control token; "" for no token."""
        if token < 0:
            return ""
        spelled: bytes | None = llama_cpp.llama_vocab_get_text(self._vocabulary, token)
        return (spelled or b"").decode("utf-8", "replace")

    def piece(self, token: int) -> bytes:
        """The bytes that a token adds to the answer; control tokens add none."""
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            length = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, room, 0, False)
            if length >= 0:
                return buffer.raw[:length]
            room = -length

    def ends(self, token: int) -> bool:
        """Whether the model ends its answer with this token."""
        return bool(llama_cpp.llama_vocab_is_eog(self._vocabulary, token))

    def strips_left(self, token: int) -> bool:
        """Whether white space before this control token belongs to it (few models have such tokens)."""
        return bool(self._attributes(token) & llama_cpp.LLAMA_TOKEN_ATTR_LSTRIP)

    def strips_right(self, token: int) -> bool:
        """Whether white space after this control token belongs to it."""
        return bool(self._attributes(token) & llama_cpp.LLAMA_TOKEN_ATTR_RSTRIP)

    def _cut_anew(self, template: str) -> tuple[str | int, ...]:
        # llama.cpp says which control tokens there are; where they stand is then a matter of spelling.
        ids = {self.text(i): i for i in self._tokenize(template, special=True) if self._attributes(i) & _CONTROL}
        if not ids:
            return (template,) if template else ()
        places = re.compile("|".join(re.escape(spelled) for spelled in sorted(ids, key=len, reverse=True)))
        parts: list[str | int] = []
        end = 0
        for match in places.finditer(template):
            if match.start() > end:
                parts.append(template[end : match.start()])
            parts.append(ids[match.group()])
            end = match.end()
        if end < len(template):
            parts.append(template[end:])
        return tuple(parts)

    def _attributes(self, token: int) -> int:
        return int(llama_cpp.llama_vocab_get_attr(self._vocabulary, token))

    def _tokenize(self, text: str, *, special: bool) -> list[int]:
        data = text.encode("utf-8")
        room = len(data) + 8
        while True:
            ids = (llama_cpp.llama_token * room)()
            count = llama_cpp.llama_tokenize(self._vocabulary, data, len(data), ids, room, False, special)
            if count >= 0:
                return list(ids[:count])
            room = -count
