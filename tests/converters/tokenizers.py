"""Small real tokenizers, as transformers saves them beside a checkpoint, and llama.cpp's word on them."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from facellm_converters.tokenizer.vocabulary import Vocabulary

QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>")
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}{% elif content['type'] == 'text' %}"
    "{{ content['text'] }}{% endif %}{% endfor %}{% endif %}{{'<|im_end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|im_start|>assistant\n' }}{% endif %}"
)
LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | upper }}: {% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}{{ '<image>\n' }}{% else %}{{ content['text'] }}{% endif %}{% endfor %} "
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)

TEXTS = (
    "What is the expression of the person in this picture? Answer with one of these words.",
    "The face is turned to the left, the eyes are closed, and the hair covers most of the forehead.",
    "Does the person wear glasses, a hat, a necklace or earrings? She's wearing large round glasses.",
    "They're smiling; I'm sure that he'll look older than she'd say. We've seen it, haven't we? It isn't his.",
    "Describe the lighting: the background is dark, the light comes from above, and shadows fall on both cheeks.",
    "How old is this man? He seems to be between thirty and thirty-nine years old (about 35, from 30 to 39).",
    "The woman has brown hair, arched eyebrows, high cheekbones, rosy cheeks and a slightly open mouth.",
    "A young boy with blond hair looks straight into the camera, neither happy nor sad, with a neutral expression.",
    "Rate the attributes: anger 0.12, disgust 0.03, fear 0.045, happiness 0.78, sadness 0.001, surprise 12345.",
    "def area(width: int, height: int) -> int:\n    return width * height\n\n\nprint(area(3, 4))\n",
    'for (int i = 0; i < count; ++i) { total += values[i]; }  // sum\nif (x == y && !z) return {"key": "value"};\n',
    "Où est le garçon? À l'école. Größe, Straße, über, naïve café, señor, façade, São Paulo, Łódź, smörgåsbord.",
    "这张脸是谁的？她的表情很高兴，戴着眼镜。年龄大约三十岁。请用一个词回答。",
    "この人は笑っていますか。はい、笑っています。眼鏡をかけています。",
    "Человек на фотографии улыбается и смотрит прямо в камеру. Сколько ему лет?",
    "هل الشخص يبتسم؟ نعم، إنه يبتسم. 얼굴이 웃고 있습니다. חיוך יפה. यह चेहरा मुस्कुरा रहा है।",
    "😀 smiling face, 😢 crying face, 👩‍👩‍👧 family, 🇨🇭 flag, ✅ yes, ❌ no 🙂🙂",
    "   leading spaces,  double  spaces,\ttabs\tand\r\nlines\n\nand more lines\n\n\n   end   ",
    "http://example.org/path?query=value&other=1#part, name@example.org, 50%, $3.50, 1,234,567.89, 2024-05-17",
    "system user assistant image text answer question yes no true false left right none other unknown",
)

HARD_TEXTS = (
    "What is the expression of the person in this picture?",
    "hello",
    " leading space",
    "trailing space ",
    "double  spaces   triple    four",
    "   ",
    " ",
    "\n",
    "\n\n",
    "a\nb",
    "a\r\nb\r\n\r\n",
    "line one\n\n\nline two\n \n  \n\tindented",
    "\ttabs\t\tand spaces \t mixed",
    "0",
    "12",
    "123",
    "1234567890",
    "3.14159",
    "1,234,567.89",
    "2024-05-17T09:30:00Z",
    "I'm, you're, he'll, she'd, we've, it's, don't",
    "I'M, YOU'RE, HE'LL, SHE'D, WE'VE, IT'S, DON'T",
    "o'clock 'quoted' ''double'' 'RE 'lL",
    "café naïve Größe Straße façade São Łódź smörgåsbord Ünïcödé",
    "这张脸是谁的？她的表情很高兴。",
    "この人は笑っていますか。",
    "얼굴이 웃고 있습니다",
    "Человек улыбается",
    "هل الشخص يبتسم؟",
    "यह चेहरा मुस्कुरा रहा है",
    "חיוך יפה",
    "😀😢✅❌🙂",
    "👩‍👩‍👧 family 🇨🇭 flag 👋🏽 wave",
    "🚀 (normal) 😶‍🌫️ (multiple emojis concatenated) ✅ 🦙🦙",
    "def f(x: int) -> int:\n    return x ** 2  # comment\n",
    'if (a == b && !c) { d["k"] += 0x1F; } // end',
    "http://example.org/p?q=v&o=1#f user@example.org",
    '!!!??? ... --- === ~~~ ``` """ ((([[[{{{',
    "$3.50 50% #1 @name ^_^ a/b\\c",
    "non\u00a0breaking\u2003em\u3000ideographic\u200bzero width",
    "CamelCaseWord snake_case_word UPPER lower MiXeD",
    "½ ² Ⅳ ① ٣٤٥ ៣៤",
    "\u0001control\u007f and \ufeffBOM",
    "a" * 60,
    "=" * 50 + "\n",
    "Answer: (A) yes (B) no\nA",
    "▁ lower block ▁▁",
    "\U00020000 rare ideograph, \U0001d54f mathematical",
)
#: With the text of special tokens, which a prompt holds.
MARKED = (
    "<|im_start|>user\n<img><IMG_CONTEXT><IMG_CONTEXT></img>\nWhat is it?<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|>",
    "a<|im_end|>b <|im_end|> c",
    "<img> <img>  </img>\n\n<|im_start|>",
    "< |im_end|> <|im_end| > <IMG_CONTEXT",
)
LLAVA_MARKED = (
    "USER: <image>\nWhat is it? ASSISTANT:",
    "a</s>b",
    "<s> twice <pad>",
    "</s></s> x <image>",
    "< /s> <imag",
)


def qwen_tokenizer(folder: Path, size: int = 1000) -> None:
    """Qwen2's kind with InternVL's special tokens, ``size`` tokens in all (300 to 1,100), the special ones last:
    ``<IMG_CONTEXT>`` is ``size - 1``."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import Qwen2TokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(QWEN_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in QWEN_SPECIAL])
    assert tokenizer.get_vocab_size() == size, f"the texts give only {tokenizer.get_vocab_size()} tokens"
    saved = Qwen2TokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=QWEN_TEMPLATE
    )
    saved.save_pretrained(folder)


def llama_tokenizer(folder: Path, size: int = 800, legacy: bool = True) -> None:
    """LLaVA 1.5's kind, ``size`` tokens in all (at least 600): ``<unk>``, ``<s>``, ``</s>``, 256 bytes, pieces, and
    last ``<image>`` (``size - 2``) and ``<pad>`` (``size - 1``).

    ``legacy``: a space is put before every stretch of text, also after a special token; without, before the first
    only, which is transformers 5's default for new tokenizers. Both put none before a space, which published
    tokenizers and llama.cpp do: see ``as_published``.
    """
    from transformers import LlamaTokenizer

    vocabulary, merges = _sentencepieces(size - 2)
    saved = LlamaTokenizer(
        vocab=vocabulary, merges=merges, legacy=legacy, add_bos_token=True, chat_template=LLAVA_TEMPLATE
    )
    saved.add_special_tokens({"additional_special_tokens": ["<image>"]})
    saved.add_special_tokens({"pad_token": "<pad>"})
    assert len(saved) == size
    saved.save_pretrained(folder)


def as_published(folder: Path) -> None:
    """The tokenizer of ``llama_tokenizer`` with the space before the text put by the normalizer, not by the
    pre-tokenizer: how transformers 4 wrote it."""
    path = folder / "tokenizer.json"
    saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    steps = [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
    saved["normalizer"] = {"type": "Sequence", "normalizers": steps}
    saved["pre_tokenizer"] = None
    path.write_text(json.dumps(saved, ensure_ascii=False), encoding="utf-8")


def _sentencepieces(size: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """As SentencePiece orders them: pieces by the order of merging, then single characters; and every pair of
    pieces that makes a piece, which is what transformers' conversion from SentencePiece lists."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    characters = sorted({letter for text in TEXTS[:12] for letter in text.replace(" ", "▁") if not letter.isspace()})
    fixed = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(fixed), initial_alphabet=characters, limit_alphabet=len(characters), show_progress=False
    )
    trained.train_from_iterator(TEXTS[:12], trainer)
    order = [text for text, _ in sorted(trained.get_vocab().items(), key=lambda entry: entry[1])]
    pieces = [text for text in order if len(text) > 1] + [text for text in order if len(text) == 1]
    vocabulary = {text: index for index, text in enumerate([*fixed, *pieces])}
    assert len(vocabulary) == size, f"the texts give only {len(vocabulary)} tokens"
    merges = [
        (text[:cut], text[cut:])
        for text in pieces
        for cut in range(1, len(text))
        if text[:cut] in vocabulary and text[cut:] in vocabulary
    ]
    ranks = [vocabulary[left + right] for left, right in merges]
    assert all(first <= second for first, second in pairwise(ranks))
    return vocabulary, merges


@dataclass(frozen=True)
class Loaded:
    """llama.cpp's view of a file's vocabulary."""

    vocab: Any

    def ids(self, text: str, special: bool = True, ends: bool = True) -> list[int]:
        import llama_cpp

        data = text.encode()
        room = len(data) + 16
        tokens = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self.vocab, data, len(data), tokens, room, ends, special)
        assert count >= 0
        return list(tokens[:count])

    def text(self, ids: list[int]) -> str:
        import llama_cpp

        buffer = ctypes.create_string_buffer(256)
        parts = []
        for token in ids:
            length = llama_cpp.llama_token_to_piece(self.vocab, token, buffer, 256, 0, True)
            assert length >= 0
            parts.append(buffer.raw[:length])
        return b"".join(parts).decode()


@contextmanager
def loaded(vocabulary: Vocabulary, path: Path, architecture: str) -> Iterator[Loaded]:
    """A file at ``path`` with ``vocabulary`` and no tensors, in llama.cpp."""
    import gguf

    writer = gguf.GGUFWriter(path, architecture)
    writer.add_vocab_size(len(vocabulary.tokens))
    vocabulary.write(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with vocabulary_of(path) as found:
        yield found


@contextmanager
def vocabulary_of(path: Path) -> Iterator[Loaded]:
    """llama.cpp's view of the vocabulary of the file at ``path``, without its weights."""
    import llama_cpp

    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    assert model, "llama.cpp does not load the file"
    try:
        yield Loaded(llama_cpp.llama_model_get_vocab(model))
    finally:
        llama_cpp.llama_model_free(model)
