"""The language model in PyTorch: the same as transformers', and fresh LoRA changes nothing."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (python3 run.py setup training)")
transformers = pytest.importorskip("transformers", reason="transformers is not installed (run.py setup training)")

import torch.nn.functional as F  # noqa: E402

from facellm_training.nano.attention import additive, attend  # noqa: E402
from facellm_training.nano.language import Language  # noqa: E402


def small() -> transformers.LlamaForCausalLM:
    """SmolLM2's shape in small: three query heads share a key head, words are tied."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=96, intermediate_size=160, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2,
        vocab_size=50, tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def causal(length: int) -> torch.Tensor:
    return torch.ones(1, 1, length, length, dtype=torch.bool).tril()


def test_our_blocks_equal_transformers() -> None:
    theirs = small()
    ours = Language(theirs, rank=4, alpha=8.0, dtype=torch.float32)
    ids = torch.arange(20)[None] * 7 % 50
    with torch.no_grad():
        wanted = theirs(ids).logits
        found = ours.logits(ours(ours.embed(ids), torch.arange(20)[None], causal(20)))
    assert torch.allclose(found, wanted, atol=1e-5)


def test_positions_may_restart_after_a_prefix() -> None:
    """A question sees the prefix and not the question before it, as the engine's kept KV state has it."""
    ours = Language(small(), rank=0, alpha=1.0, dtype=torch.float32)
    prefix, first, second = [1, 2, 3], [10, 11], [20, 21]
    alone = torch.tensor([prefix + second])
    packed = torch.tensor([prefix + first + second])
    seen = causal(7)
    seen[0, 0, 5:, 3:5] = False
    with torch.no_grad():
        wanted = ours(ours.embed(alone), torch.arange(5)[None], causal(5))[0, 3:]
        found = ours(ours.embed(packed), torch.tensor([[0, 1, 2, 3, 4, 3, 4]]), seen)[0, 5:]
    assert torch.allclose(found, wanted, atol=1e-5)


def test_only_lora_is_trained_and_every_matrix_has_it() -> None:
    ours = Language(small(), rank=4, alpha=8.0, dtype=torch.float32)
    trained = [name for name, value in ours.named_parameters() if value.requires_grad]
    assert len(trained) == 2 * len(ours.loras()) == 2 * 7 * 3
    assert all(name.endswith((".a", ".b")) for name in trained)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_attention_equals_torchs(groups: int) -> None:
    torch.manual_seed(1)
    q, k, v = torch.randn(2, 6, 9, 8), torch.randn(2, groups, 9, 8), torch.randn(2, groups, 9, 8)
    seen = causal(9).expand(2, 1, 9, 9)
    wanted = F.scaled_dot_product_attention(
        q, k.repeat_interleave(6 // groups, 1), v.repeat_interleave(6 // groups, 1), attn_mask=seen
    )
    assert torch.allclose(attend(q, k, v, additive(seen)), wanted, atol=1e-6)
    every = F.scaled_dot_product_attention(q, k.repeat_interleave(6 // groups, 1), v.repeat_interleave(6 // groups, 1))
    assert torch.allclose(attend(q, k, v), every, atol=1e-6)


class Numbers:
    """A tokenizer that gives each name tokens of its own."""

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [sum(map(ord, word)) % 50 for word in text.split()]}


def test_class_words_are_centred_and_of_length_one() -> None:
    from facellm_training.nano.word_stage import class_words

    language = Language(small(), rank=0, alpha=1.0, dtype=torch.float32)
    words = class_words("glasses", language, Numbers())
    assert words.shape == (3, 96)
    assert torch.allclose(words.norm(dim=-1), torch.ones(3), atol=1e-5)
    plain = torch.stack([language.words[Numbers()(name)["input_ids"]].mean(0) for name in
                         ("no glasses", "eyeglasses", "sunglasses")])  # fmt: skip
    assert torch.nn.functional.cosine_similarity(words, plain - plain.mean(0)).min() > 0.999
