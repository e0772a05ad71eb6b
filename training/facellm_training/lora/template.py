"""Conversations as tokens: the checkpoint's chat template, image tokens, and which tokens carry loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellm.core.prompt import choice_keys
from facellm_training.lora.conversations import IMAGE, Conversation, DataError


@dataclass(frozen=True, slots=True)
class Marks:
    """A picture in a prompt: ``place`` for each of its tokens, between ``begin`` and ``end``, which may be empty; then
    a line end."""

    begin: str
    place: str
    end: str


#: What the -hf templates write.
INTERN_MARKS = Marks("<img>", "<IMG_CONTEXT>", "</img>")
#: As a label: no loss.
SILENT = -100

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Encoded:
    """``ids`` and ``labels`` ``[n]``, labels ``SILENT`` but at the answers' tokens. ``pictures``: how many; they stand
    in the order of the conversation's."""

    ids: Ids
    labels: Ids
    pictures: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def supervised(self) -> int:
        """How many tokens carry loss."""
        return int((self.labels != SILENT).sum())


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed question up to its answer. ``keys``: the token of each possible answer; ``right``: which one."""

    ids: Ids
    keys: tuple[int, ...]
    right: int

    def __len__(self) -> int:
        return len(self.ids)


class Template:
    """Renders for one checkpoint. ``image_tokens``: a picture's, 256 for 448 px in patches of 14 shuffled 2×2."""

    def __init__(self, tokenizer: Any, image_tokens: int, max_tokens: int, marks: Marks = INTERN_MARKS) -> None:
        """Raises ``DataError`` where the tokenizer has no chat template or lacks a token of ``marks``."""
        if not tokenizer.chat_template:
            raise DataError("The checkpoint has no chat template.", "Take its folder whole, chat_template.jinja too.")
        self.tokenizer, self.image_tokens, self.max_tokens, self.marks = tokenizer, image_tokens, max_tokens, marks
        known, special = tokenizer.get_vocab(), [text for text in (marks.begin, marks.place, marks.end) if text]
        missing = [text for text in special if text not in known]
        if missing:
            raise DataError(f"The checkpoint's tokenizer lacks {', '.join(missing)}; others of its kind have them.")
        self.context = int(known[marks.place])
        self.ends = {int(tokenizer.eos_token_id), *(int(known[text]) for text in ("<|im_end|>",) if text in known)}
        control = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._control = [*map(str, tokenizer.all_special_tokens), *control, *special]

    def encode(self, conversation: Conversation) -> Encoded:
        """Loss is on every answer and the token that ends it; questions, pictures and the template carry none.

        Raises ``DataError`` for a text with control tokens, or one longer than ``max_tokens``.
        """
        parts: list[tuple[list[int], bool]] = []
        done = ""
        for turn, (role, _) in enumerate(conversation.messages):
            if role == "assistant":
                prompt = self._render(conversation, turn, answer_next=True)
                whole = self._render(conversation, turn + 1, answer_next=False)
                if not prompt.startswith(done) or not whole.startswith(prompt):
                    raise DataError(
                        "The checkpoint's chat template changes earlier turns as a conversation grows.",
                        "Give it a plain template, one turn after the other.",
                    )
                parts += [(self._ids(prompt[len(done) :]), False), (self._ids(whole[len(prompt) :]), True)]
                done = whole
        ids = np.array([token for part, _ in parts for token in part], np.int32)
        labels = np.concatenate([self._labels(part) if loud else np.full(len(part), SILENT) for part, loud in parts])
        self._check_length(conversation, len(ids))
        return Encoded(ids, labels.astype(np.int32), len(conversation.images))

    def closed(self, conversation: Conversation) -> Closed | None:
        """The first question with its possible answers' first tokens; none for what is no closed question, or where
        two answers begin with the same token."""
        turn = next(turn for turn, (role, _) in enumerate(conversation.messages) if role == "assistant")
        try:
            keys = choice_keys(conversation.choices)
        except ValueError:
            return None
        lowered, answer = [key.lower() for key in keys], conversation.answer.strip().lower()
        if answer not in lowered:
            return None
        if conversation.messages[turn][1].strip()[:1].isupper():
            keys = tuple(key.capitalize() for key in keys)
        tokens = tuple(self._ids(key)[0] for key in keys)
        if len(set(tokens)) != len(tokens):
            return None
        ids = np.array(self._ids(self._render(conversation, turn, answer_next=True)), np.int32)
        self._check_length(conversation, len(ids))
        return Closed(ids, tokens, lowered.index(answer))

    def _render(self, conversation: Conversation, turns: int, *, answer_next: bool) -> str:
        messages = [
            {"role": role, "content": self._content(text, conversation.id)}
            for role, text in conversation.messages[:turns]
        ]
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer_next)
        return str(text)

    def _content(self, text: str, where: str) -> str:
        control = next((token for token in self._control if token and token in text), None)
        if control is not None:
            raise DataError(f"Conversation {where} holds the control token {control} as text.")
        # A line break that the data has already is not doubled.
        return text.replace(f"{IMAGE}\n", IMAGE).replace(IMAGE, f"{self.marks.place}\n")

    def _ids(self, text: str) -> list[int]:
        marks = self.marks
        whole = text.replace(marks.place, marks.begin + marks.place * self.image_tokens + marks.end)
        return list(self.tokenizer(whole, add_special_tokens=False)["input_ids"])

    def _labels(self, part: list[int]) -> Ids:
        """Up to the first token that ends the turn; the line break behind it is the template's."""
        labels = np.array(part, np.int32)
        end = next((place for place, token in enumerate(part) if token in self.ends), len(part) - 1)
        labels[end + 1 :] = SILENT
        return labels

    def _check_length(self, conversation: Conversation, length: int) -> None:
        if length > self.max_tokens:
            pictures = len(conversation.images)
            raise DataError(
                f"Conversation {conversation.id} has {length} tokens, {pictures * (self.image_tokens + 2)} of them of "
                f"{pictures} pictures; data.max_tokens allows {self.max_tokens}.",
                'Raise data.max_tokens, shorten it, or set data.faulty: "skip".',
            )
