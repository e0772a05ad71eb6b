"""The embedded model as a checkpoint: it converts to the pair that is shipped, and answers as the trainer's modules."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from facellm.core.ask import Question
from facellm.core.package import ModelPackage
from facellm.engine.canary import LEAST_COSINE_8_BITS, check_canary
from facellm.engine.client import EngineClient
from facellm.engine.errors import RuntimeChanged
from facellm.engine.protocol import AskRequest, Done
from facellm.models.gguf_header import read_header
from facellm.models.nano.pair import DELTAS, LANGUAGE_ASSET, TOWER_ASSET
from facellm.models.nano.tensor_file import read_tensors
from facellm.models.packages import ModelMissing, find_package, read_package
from facellm.models.store import AssetStore
from facellm_converters.convert import Order, convert
from facellm_converters.equality.compare import compare_with
from facellm_converters.equality.decoder import next_token_logits
from facellm_converters.equality.measures import cosines
from facellm_converters.equality.runtime import Pair
from facellm_converters.equality.texts import pictures
from facellm_converters.equality.tower import tokens_of_all
from facellm_converters.errors import Unsupported
from facellm_converters.layouts.checkpoint import open_checkpoint
from facellm_converters.tokenizer.vocabulary import read_vocabulary
from tests.converters.tokenizers import HARD_TEXTS, MARKED, loaded, vocabulary_of

#: What the converted files say otherwise: who wrote them and of what, and the picture token by token.
OWN_WORDS = {
    "facellm.canary.embedding", "facellm.canary.tokens", "facellm.converter", "facellm.pair",
    "facellm.vision.pos_embd_layout", "general.languages", "general.license", "general.name",
    "general.size_label", "tokenizer.ggml.add_eos_token",
}  # fmt: skip
PROMPT = "<|im_start|>user\nIs this person wearing glasses?<|im_end|>\n<|im_start|>assistant\nNo, no glasses are worn."


@pytest.fixture(scope="module")
def shipped() -> ModelPackage:
    try:
        return find_package("nano", AssetStore())
    except ModelMissing:
        pytest.skip("the embedded model is not built here")


@pytest.fixture(scope="module")
def store() -> AssetStore:
    found = AssetStore()
    if not all(found.file(name).is_file() for name in (LANGUAGE_ASSET, TOWER_ASSET)):
        pytest.skip("the carriers of the embedded model are not on this machine")
    return found


@pytest.fixture(scope="module")
def checkpoint(store: AssetStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """As the command writes it."""
    folder = tmp_path_factory.mktemp("nano") / "checkpoint"
    assert run("checkpoint", folder).returncode == 0
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def converted(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelPackage]:
    folder = tmp_path_factory.mktemp("pair")
    convert(Order(checkpoint, folder, name="facellm-nano"), lambda *_: None)
    yield read_package(folder)
    opened.cache_clear()
    shutil.rmtree(folder)


def run(*words: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "facellm.cli.app", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)


@lru_cache(4)
def opened(file: Path) -> GGUFReader:
    """Kept: it takes seconds to walk through a vocabulary."""
    return GGUFReader(file)


@pytest.mark.parametrize("part", ["llm", "mmproj"])
def test_every_tensor_is_the_shipped_ones_bytes(shipped: ModelPackage, converted: ModelPackage, part: str) -> None:
    right, found = (
        {tensor.name: tensor for tensor in opened(getattr(package, part)).tensors} for package in (shipped, converted)
    )
    assert len(right) == {"llm": 272, "mmproj": 184}[part]
    assert right.keys() == found.keys()
    different = [
        name for name, tensor in right.items()
        if tensor.tensor_type != found[name].tensor_type or tensor.shape.tolist() != found[name].shape.tolist()
        or tensor.data.tobytes() != found[name].data.tobytes()
    ]  # fmt: skip
    assert not different


@pytest.mark.parametrize("part", ["llm", "mmproj"])
def test_every_field_that_llama_cpp_reads_is_the_same(
    shipped: ModelPackage, converted: ModelPackage, part: str
) -> None:
    right, found = (whole_header(getattr(package, part)) for package in (shipped, converted))
    different = {key for key in right.keys() | found.keys() if right.get(key) != found.get(key)}
    named = {key for key in different if key.startswith(("general.base_model.", "general.dataset."))}
    assert different - named <= OWN_WORDS
    assert not found.get("tokenizer.ggml.add_eos_token", False)
    assert right["facellm.version"] == found["facellm.version"]
    if part == "llm":
        assert right["facellm.choice_temperature"] == found["facellm.choice_temperature"] != 1
        assert len(found["tokenizer.ggml.tokens"]) == 49152
        assert len(found["tokenizer.ggml.merges"]) == 48900


def whole_header(file: Path) -> dict[str, Any]:
    fields = opened(file).fields
    return {key: field.contents() for key, field in fields.items() if not key.startswith("GGUF.")}


def test_the_tokenizer_cuts_as_the_shipped_pair_in_llama_cpp(
    shipped: ModelPackage, checkpoint: Path, tmp_path: Path
) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    ours = tokenizers.Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    texts = (*HARD_TEXTS, *MARKED, PROMPT)
    with (
        vocabulary_of(shipped.llm) as right,
        loaded(read_vocabulary(checkpoint, 49152), tmp_path / "v.gguf", "llama") as again,
    ):
        for text in texts:
            assert ours.encode(text).ids == right.ids(text) == again.ids(text), text
            assert ours.decode(right.ids(text), skip_special_tokens=False) == text


def test_transformers_reads_the_tokenizer_and_its_template(checkpoint: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(checkpoint)
    said = [{"role": "user", "content": "Is this person wearing glasses?"}]
    text = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    assert text == PROMPT.removesuffix("No, no glasses are worn.")
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)


def test_both_pairs_pass_the_self_test_and_give_the_same_answers(
    shipped: ModelPackage, converted: ModelPackage, astronaut: Path
) -> None:
    """The engine compares the stored picture's embedding when it loads a pair, and refuses one that is otherwise."""
    from PIL import Image

    face = np.asarray(Image.open(astronaut).crop((150, 20, 310, 180)).resize((224, 224)))
    closed = [Question("Is this person male or female?", ("male", "female")), Question("Smiling?", ("no", "yes"))]
    found = []
    for package in (shipped, converted):
        with EngineClient(package) as client:
            texts = [
                event.answer.text
                for question in ("Describe this picture.", "What colour is the hair?")
                for event in client.ask(AskRequest((face,), Question(question), max_tokens=40, temperature=0.0))
                if isinstance(event, Done)
            ]
            answers = client.choose((face,), closed)
        found.append((texts, [[(one.text, one.p) for one in answer.choices] for answer in answers]))
    assert found[0] == found[1]
    assert len(found[0][0]) == 2 and len(found[0][0][0]) > 20
    header = read_header(converted.mmproj)
    assert len(header["facellm.canary.embedding"]) == 32 * 576 == header["facellm.canary.tokens"] * 576


def test_with_8_bits_the_image_part_still_passes_the_self_test(
    checkpoint: Path, shipped: ModelPackage, tmp_path: Path
) -> None:
    """Its rounding is no fault of the runtime's; a picture moved by a patch is one all the same."""
    done = convert(Order(checkpoint, tmp_path, mmproj_quant="Q8_0"), lambda *_: None)
    header, seen = read_header(done.mmproj), []
    with Pair(shipped.llm, done.mmproj, 2) as runtime:
        check_canary(header, 224, lambda picture: seen.append(runtime.image_tokens(picture)) or seen[0], lambda _: None)
    assert LEAST_COSINE_8_BITS < mean_cosine(header, seen[0]) < 0.9995
    with pytest.raises(RuntimeChanged):
        check_canary(header, 224, lambda _picture: np.roll(seen[0], 1, 0), lambda _: None)


def mean_cosine(header: dict[str, Any], found: np.ndarray) -> float:
    stored = np.array(header["facellm.canary.embedding"]).reshape(header["facellm.canary.tokens"], -1)
    return float(cosines(found[: len(stored)], stored).mean())


def test_parity_says_equal(converted: ModelPackage, checkpoint: Path) -> None:
    report = compare_with(checkpoint, None, converted)
    assert report.equal
    assert report.cosine_mean > 0.99999
    assert report.cosine_least > 0.9999
    assert report.divergence_mean < 0.01
    assert report.letters == 1


def test_numpy_computes_what_the_trainers_modules_do(checkpoint: Path, store: AssetStore) -> None:
    """PyTorch on the carriers, LoRA beside the weights; numpy on the checkpoint, in which it is merged."""
    from tests.models.test_nano_parity import in_pytorch

    tensors, metadata = read_tensors(DELTAS)
    shown = pictures(224)
    right = in_pytorch(np.stack(shown), store, tensors, float(metadata["tower_lora_scale"]))
    with open_checkpoint(checkpoint) as opened:
        found = tokens_of_all(opened, shown)
    assert found.shape == right.shape == (3, 49, 576)
    assert np.abs(found - right).max() < 2e-3 * right.std()


def test_the_language_part_computes_what_the_trainers_does(checkpoint: Path, store: AssetStore) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from facellm_training.nano.language import Language
    from tests.models.test_nano_parity import floats

    tensors, metadata = read_tensors(DELTAS)
    rank = len(tensors["language.layers.0.self_attn.q_proj.lora_a"])
    scale = float(metadata["language_lora_scale"])
    gguf = store.file(LANGUAGE_ASSET)
    source = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    model = Language(source, rank=rank, alpha=rank * scale, dtype=torch.float32)
    ids = torch.tensor([transformers.PreTrainedTokenizerFast.from_pretrained(checkpoint)(PROMPT)["input_ids"]])
    count = ids.shape[1]
    with torch.no_grad():
        for key, lora in model.loras().items():
            lora.a.copy_(floats(tensors, f"{key}.lora_a"))
            lora.b.copy_(floats(tensors, f"{key}.lora_b"))
        causal = torch.ones(1, 1, count, count, dtype=torch.bool).tril()
        right = model.logits(model(model.embed(ids), torch.arange(count)[None], causal))[0].numpy()
    with open_checkpoint(checkpoint) as opened:
        found = next_token_logits(opened, ids[0].tolist())
    assert np.abs(found - right).max() < 2e-3 * right.std()


@pytest.mark.parametrize(
    ("name", "value"), [("projector_hidden_act", "gelu"), ("projector_norm_eps", 1e-5), ("downsample_ratio", 0.25)]
)
def test_another_projector_is_refused(checkpoint: Path, tmp_path: Path, name: str, value: object) -> None:
    for file in checkpoint.iterdir():
        (tmp_path / file.name).symlink_to(file)
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(config | {name: value}), encoding="utf-8")
    with pytest.raises(Unsupported, match=f"{name} = {value}"), open_checkpoint(tmp_path):
        pass


def test_a_checkpoint_that_is_there_is_not_written_over(checkpoint: Path) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in checkpoint.iterdir()}
    done = run("checkpoint", checkpoint)
    assert done.returncode == 1
    assert "holds a checkpoint already" in done.stderr
    assert {file.name: file.stat().st_mtime_ns for file in checkpoint.iterdir()} == before
    assert not [name for name in before if name.startswith(".")]


def test_deltas_that_cannot_be_used_leave_nothing(store: AssetStore, tmp_path: Path) -> None:
    damaged = tmp_path / "deltas.safetensors"
    damaged.write_bytes(DELTAS.read_bytes()[:100_000])
    for deltas, said in ((damaged, "damaged"), (tmp_path / "none", "missing")):
        done = run("checkpoint", tmp_path / "out", "--deltas", deltas)
        assert done.returncode == 1
        assert said in done.stderr
        assert not (tmp_path / "out").exists()
