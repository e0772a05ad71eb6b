"""The importance matrix: its sums are PyTorch's, and a file made with it is closer where the model looks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.numpy import load_file, save_file

from facellm.core.aspects import ASPECTS
from facellm_converters.convert import Converted, Order, convert
from facellm_converters.equality.decoder import Stretch, embedded, hidden_states
from facellm_converters.equality.runtime import Words
from facellm_converters.equality.texts import TEXTS, pictures
from facellm_converters.errors import BadCheckpoint, ConversionError, Unsupported
from facellm_converters.importance.matrix import CHUNK, Sums, bytes_read, stretches, weighed, write_importance
from facellm_converters.importance.pictures import faces
from facellm_converters.importance.texts import CONVERSATIONS, NAME, conversations
from facellm_converters.layouts.checkpoint import Checkpoint, open_checkpoint
from facellm_converters.write.plan import text_name

torch = pytest.importorskip("torch", reason="the checkpoints are made with PyTorch")

from tests.converters import checkpoints
from tests.converters.test_commands import facellm

MAKERS = {
    "qwen2": checkpoints.internvl,
    "qwen3": lambda folder: checkpoints.internvl(folder, "qwen3"),
    "llava": checkpoints.llava,
}


def made_with(folder: Path, out: Path, kind: str, imatrix: bool = True) -> Converted:
    return convert(Order(folder, out, kind, imatrix=imatrix, threads=2), lambda *_: None)


@contextmanager
def opened(folder: Path, work: Path) -> Iterator[tuple[Checkpoint, Words]]:
    done = convert(Order(folder, work / "whole", "F32", self_test=False), lambda *_: None)
    with open_checkpoint(folder) as checkpoint, Words(done.language) as words:
        yield checkpoint, words


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """A checkpoint whose rows k-quants take, and its matrix: GGUF name → mean squares ``[columns]``."""
    root = tmp_path_factory.mktemp("wide")
    checkpoints.internvl(root / "checkpoint", width=256)
    with opened(root / "checkpoint", root) as (checkpoint, words):
        write_importance(root / "matrix.gguf", checkpoint, words, lambda _: None)
    held = {tensor.name: np.array(tensor.data) for tensor in GGUFReader(root / "matrix.gguf").tensors}
    names = [name.removesuffix(".counts") for name in held if name.endswith(".counts")]
    return root / "checkpoint", {name: (held[f"{name}.in_sum2"] / held[f"{name}.counts"])[0] for name in names}


def measured(model, inputs: list[Stretch]) -> dict[str, np.ndarray]:
    """Sums of squares by a weight's name, of PyTorch's hooks: each stretch behind the one that it goes on from."""
    language = model.model.language_model
    sums: dict[str, np.ndarray] = {}
    skipped = 0

    def hook(name):
        def add(_module, given):
            own = given[0][0, skipped:].double().square().sum(0).numpy()
            sums[name] = sums.get(name, 0) + own

        return add

    hooks = [
        module.register_forward_pre_hook(hook(f"language_model.{name}.weight"))
        for name, module in language.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    for stretch in inputs:
        before = inputs[stretch.after].inputs if stretch.after is not None else stretch.inputs[:0]
        skipped = len(before)
        if len(stretch.inputs):
            whole = torch.from_numpy(np.concatenate([before, stretch.inputs]))
            with torch.no_grad():
                language(inputs_embeds=whole[None])
    for one in hooks:
        one.remove()
    return sums


@pytest.mark.parametrize("name", MAKERS)
def test_the_sums_are_those_of_transformers(tmp_path, name) -> None:
    model = MAKERS[name](tmp_path / "checkpoint")
    with opened(tmp_path / "checkpoint", tmp_path) as (checkpoint, words):
        inputs = stretches(checkpoint, words)
        told: list[int] = []
        found = Sums(checkpoint, told.append)
        seen = hidden_states(checkpoint, inputs, found)
        unseen = hidden_states(checkpoint, inputs)
        assert sum(told) == bytes_read(checkpoint)
    right = measured(model, inputs)
    assert found.sums.keys() == right.keys()
    assert found.tokens == sum(len(stretch.inputs) for stretch in inputs)
    assert all(np.allclose(sums, right[weight], rtol=1e-4, atol=0) for weight, sums in found.sums.items())
    assert all(np.array_equal(one, other) for one, other in zip(seen, unseen, strict=True))


@pytest.mark.parametrize("name", ["qwen2", "llava"])
def test_half_of_the_conversations_are_behind_a_face_in_the_models_own_turns(made, tmp_path, name) -> None:
    with opened(made / name, tmp_path) as (checkpoint, words):
        inputs = stretches(checkpoint, words)
        marks = ("<|im_start|>", "<|im_end|>\n") if name == "qwen2" else ("USER:", "</s>")
        first = embedded(checkpoint, words.tokens(marks[0]))
        last = embedded(checkpoint, words.tokens(marks[1]))
    alone, *begun = inputs[: 1 + len(faces(checkpoints.IMAGE))]
    assert len(alone.inputs) == (name == "llava")  # its first token
    assert all(len(one.inputs) > checkpoint.vision.tokens for one in begun)
    talks = inputs[1 + len(begun) :]
    assert [talk.after for talk in talks] == [0] * 4 + [1, 2, 1, 2]
    assert all(np.array_equal(talk.inputs[: len(first)], first) == (talk.after == 0) for talk in talks)
    assert all(np.array_equal(talk.inputs[-len(last) :], last) for talk in talks)


def test_the_file_is_of_llama_cpps_kind_and_covers_every_weight_of_the_layers(made, tmp_path) -> None:
    with opened(made / "qwen3", tmp_path) as (checkpoint, words):
        write_importance(tmp_path / "matrix.gguf", checkpoint, words, lambda _: None)
        shapes = {text_name(name): checkpoint.weights[name] for name in weighed(checkpoint)}
    reader = GGUFReader(tmp_path / "matrix.gguf")
    fields = {key: field.contents() for key, field in reader.fields.items()}
    assert fields["general.type"] == "imatrix"
    assert (fields["imatrix.datasets"], fields["imatrix.chunk_size"]) == ([NAME], CHUNK)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert len(shapes) == 14
    assert tensors.keys() == {f"{name}.{end}" for name in shapes for end in ("in_sum2", "counts")}
    counts = {float(tensors[f"{name}.counts"].data[0, 0]) for name in shapes}
    assert len(counts) == 1
    assert 0 <= fields["imatrix.chunk_count"] * CHUNK - counts.pop() < CHUNK
    for name, (_, columns) in shapes.items():
        assert tensors[f"{name}.in_sum2"].data.shape == (1, columns)
        assert (tensors[f"{name}.in_sum2"].data > 0).all()


@pytest.mark.parametrize("kind", ["Q4_K_M", "IQ4_XS"])
def test_what_matters_is_closer_with_the_matrix(wide, tmp_path, kind) -> None:
    folder, means = wide
    weights = load_file(folder / "model.safetensors")
    found = []
    for imatrix in (False, True):
        done = made_with(folder, tmp_path / str(imatrix), kind, imatrix)
        tensors = {tensor.name: tensor for tensor in GGUFReader(done.language).tensors}
        assert means.keys() < tensors.keys()
        error = 0.0
        for name, values in weights.items():
            short = _short(name)
            if short in means:
                rounded = dequantize(tensors[short].data, tensors[short].tensor_type)
                error += float((means[short] * (rounded - values) ** 2).sum())
        found.append((error, [tensors[name].tensor_type.name for name in means]))
    (without, one), (with_it, other) = found
    assert one == other
    assert any(kind[:4] in name for name in one)
    assert 0 < with_it < 0.97 * without


def _short(name: str) -> str:
    start = re.sub(r"^(model\.)?language_model\.(model\.)?layers", "language_model.layers", name)
    return text_name(start) if start.startswith("language_model.layers.") else ""


def test_the_file_says_of_what_the_matrix_is_and_a_repeated_run_gives_the_same_bytes(made, tmp_path) -> None:
    one, other, plain = (
        made_with(made / "qwen3", tmp_path / name, "IQ4_XS", name != "plain") for name in ("one", "other", "plain")
    )
    assert one.language.read_bytes() == other.language.read_bytes()
    assert one.mmproj.read_bytes() == plain.mmproj.read_bytes()
    files = sorted(file.name for file in one.language.parent.iterdir())
    assert files == sorted([one.language.name, one.mmproj.name, one.card.name])
    mine, bare = (GGUFReader(done.language) for done in (one, plain))
    changed = [a.name for a, b in zip(mine.tensors, bare.tensors, strict=True) if not np.array_equal(a.data, b.data)]
    assert len(changed) == 14
    assert all(name.startswith("blk.") for name in changed)
    fields = {key: field.contents() for key, field in mine.fields.items() if key.startswith("quantize.imatrix.")}
    assert fields.pop("quantize.imatrix.chunks_count") > 5
    assert fields == {
        "quantize.imatrix.file": "qwen3-importance.gguf",
        "quantize.imatrix.dataset": NAME,
        "quantize.imatrix.entries_count": 14,
    }
    assert NAME in mine.fields["facellm.importance"].contents()
    assert NAME in one.card.read_text()
    assert not [key for key in bare.fields if "imatrix" in key or "importance" in key]
    assert NAME not in plain.card.read_text()


def test_its_progress_is_a_step_of_its_own(made, tmp_path) -> None:
    told: list[tuple[str, int, int]] = []
    convert(Order(made / "qwen2", tmp_path, "Q6_K", imatrix=True), lambda *row: told.append(row))
    steps = list(dict.fromkeys(step for step, _, _ in told))
    assert steps[-3:] == ["language part", "importance matrix", "quantising"]
    starts = {step: next(done for name, done, _ in told if name == step) for step in steps}
    with open_checkpoint(made / "qwen2") as checkpoint:
        assert starts["quantising"] - starts["importance matrix"] == bytes_read(checkpoint)


@pytest.mark.parametrize(
    ("weight", "factor", "message"),
    [
        ("layers.1.mlp.up_proj.weight", 0.0, r"Nothing reaches .*layers\.1\.mlp\.down_proj\.weight"),
        ("layers.0.input_layernorm.weight", 1e38, r"inputs of .*layers\.0\.self_attn\.[a-z]+_proj\.weight are not num"),
    ],
)
def test_a_model_that_computes_nothing_is_refused_and_nothing_is_left(
    copied, tmp_path, weight, factor, message
) -> None:
    folder = copied("qwen2")
    weights = load_file(folder / "model.safetensors")
    (name,) = [name for name in weights if name.endswith(weight)]
    weights[name] *= np.float32(factor)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(BadCheckpoint, match=message):
        made_with(folder, tmp_path / "out", "Q4_K_M")
    assert not (tmp_path / "out").exists()


def test_stopped_while_it_is_computed_nothing_is_left(made, tmp_path) -> None:
    def stop(step: str, *_: int) -> None:
        if step == "importance matrix":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(Order(made / "qwen2", tmp_path / "out", "Q4_K_M", imatrix=True), stop)
    assert not (tmp_path / "out").exists()


def test_kinds_that_use_none_are_refused_by_name(made, tmp_path) -> None:
    for kind in ("F16", "Q8_0"):
        with pytest.raises(Unsupported, match=f"{kind} does not use") as error:
            made_with(made / "qwen2", tmp_path / "out", kind)
        assert "IQ4_XS" in error.value.hint
    typed = facellm("convert", made / "qwen2", "--imatrix", "--out", tmp_path / "out", folder=tmp_path)
    assert typed.returncode == 1
    assert "Q4_K_M" in typed.stderr
    assert not (tmp_path / "out").exists()


def test_it_is_typed_as_a_flag(made, tmp_path) -> None:
    typed = facellm(
        "convert", made / "qwen2", "--quant", "iq4_xs", "--imatrix", "--out", tmp_path / "out", folder=tmp_path
    )
    assert typed.returncode == 0, typed.stderr
    assert "quantize.imatrix.dataset" in GGUFReader(tmp_path / "out" / "qwen2-iq4_xs.gguf").fields
    told = facellm("inspect", tmp_path / "out" / "qwen2-iq4_xs.gguf", folder=tmp_path)
    assert NAME in told.stdout


def test_words_of_a_file_that_does_not_load_are_an_error(tmp_path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"GGUF")
    with pytest.raises(ConversionError, match="cannot load"):
        Words(tmp_path / "no.gguf")


def test_the_texts_are_none_of_those_that_judge() -> None:
    talks = conversations()
    every = [one for talk in talks for one in talk]
    assert (len(talks), len(every)) == (CONVERSATIONS, 80)
    assert len(set(every)) == 80
    judged = " ".join(text.content for text in TEXTS)
    assert not [
        one for one in every if one.question.split("\n")[0] in judged or (len(one.answer) > 9 and one.answer in judged)
    ]
    assert {one.question for one in ASPECTS} <= {dialogue.question for dialogue in every}
    for talk in talks:
        assert any(one.answer in one.question[-500:] and len(one.answer) == 1 for one in talk)
        assert any(one.answer.startswith("That cannot be seen: ") for one in talk)
        assert any(len(one.answer) > 60 for one in talk)


def test_the_pictures_are_none_of_those_that_judge() -> None:
    drawn = faces(checkpoints.IMAGE)
    assert [(picture.shape, picture.dtype) for picture in drawn] == [((112, 112, 3), np.uint8)] * 2
    judged = pictures(checkpoints.IMAGE)
    assert all(not np.array_equal(one, other) for one in drawn for other in [*judged, drawn[0][:, ::-1]])
    assert all(np.array_equal(*both) for both in zip(drawn, faces(checkpoints.IMAGE), strict=True))
