"""``facellm inspect``, on files of the format's own writer and on the embedded model."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from facellm.cli.app import app
from facellm.models.gguf_header import KINDS
from facellm.models.inspect import FILE_TYPES

if TYPE_CHECKING:
    from facellm.core.package import ModelPackage

TEMPLATE = "".join(f"{{# line {number} #}}\n" for number in range(9))


def write(path: Path, architecture: str, fields: Mapping[str, Any], tensors: Mapping[str, tuple[str, tuple[int, ...]]],
          **options: Any) -> Path:  # fmt: skip
    """A real file; ``tensors``: name → kind and shape, slowest dimension first."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter

    writer = GGUFWriter(path, architecture, **options)
    adders: dict[type, Any] = {
        str: writer.add_string,
        float: writer.add_float32,
        int: writer.add_uint32,
        list: writer.add_array,
    }
    for key, value in fields.items():
        adders[type(value)](key, value)
    for name, (kind, shape) in tensors.items():
        number = GGMLQuantizationType[kind]
        block, stored = GGML_QUANT_SIZES[number]
        data = np.zeros((*shape[:-1], shape[-1] // block * stored), np.uint8)
        writer.add_tensor(name, data, raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def language(path: Path, more: Mapping[str, Any] | None = None, width: int = 512) -> Path:
    fields = {
        "general.name": "Faces 1B", "general.type": "model", "general.license": "mit", "general.file_type": 15,
        "general.base_model.count": 1, "general.base_model.0.name": "InternVL3-1B",
        "general.base_model.0.organization": "OpenGVLab",
        "general.base_model.0.repo_url": "https://huggingface.co/OpenGVLab/InternVL3-1B",
        "general.dataset.count": 1, "general.dataset.0.name": "FairFaceGPT",
        "facellm.converter": "facellm 1", "facellm.adapter.rank": 8, "facellm.choice_temperature": 1.5,
        "qwen2.context_length": 32768, "qwen2.block_count": 2, "qwen2.embedding_length": width,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": [f"t{number}" for number in range(77)], "tokenizer.chat_template": TEMPLATE,
    }  # fmt: skip
    tensors = {
        "token_embd.weight": ("Q6_K", (77, width)), "blk.0.ffn_up.weight": ("Q4_K", (512, width)),
        "blk.1.ffn_up.weight": ("Q4_K", (512, width)), "output_norm.weight": ("F32", (width,)),
    }  # fmt: skip
    return write(path, "qwen2", {**fields, **(more or {})}, tensors)


def eyes(path: Path, more: Mapping[str, Any] | None = None, width: int = 512) -> Path:
    fields = {
        "general.name": "Faces 1B eyes", "general.type": "mmproj", "general.file_type": 1,
        "clip.projector_type": "internvl", "clip.vision.image_size": 448, "clip.vision.patch_size": 14,
        "clip.vision.projector.scale_factor": 2, "clip.vision.projection_dim": width, "clip.vision.block_count": 24,
        "clip.vision.embedding_length": 1024,
        "clip.vision.image_mean": [0.485, 0.456, 0.406], "clip.vision.image_std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    return write(path, "clip", {**fields, **(more or {})}, {"v.patch_embd.weight": ("F16", (64, 588))})


def told(path: Path) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["inspect", str(path), "--json"])
    assert result.exit_code == 0, result.stderr
    (line,) = result.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def shown(path: Path) -> str:
    result = CliRunner().invoke(app, ["inspect", str(path)])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_a_language_model_says_what_it_is_and_where_it_comes_from(tmp_path: Path) -> None:
    found = told(language(tmp_path / "a.gguf"))
    assert (found["kind"], found["name"], found["architecture"]) == ("language model", "Faces 1B", "qwen2")
    assert (found["shard"], found["eyes"], found["adapter"]) == (None, None, None)
    assert found["language"] == {
        "context": 32768, "layers": 2, "width": 512, "vocabulary": 77, "tokenizer": "gpt2", "pre_tokenizer": "qwen2",
        "chat_template": TEMPLATE,
    }  # fmt: skip
    assert found["licence"] == "mit"
    url = "https://huggingface.co/OpenGVLab/InternVL3-1B"
    assert found["base_models"] == [{"name": "InternVL3-1B", "organization": "OpenGVLab", "url": url}]
    assert found["datasets"] == [{"name": "FairFaceGPT"}]
    assert found["provenance"] == {"converter": "facellm 1", "adapter.rank": 8, "choice_temperature": 1.5}


def test_sizes_are_counted_by_share_of_the_weights(tmp_path: Path) -> None:
    path = language(tmp_path / "a.gguf")
    found = told(path)
    whole = (77 + 1024 + 1) * 512
    assert (found["parameters"], found["bytes"], found["file_type"]) == (whole, path.stat().st_size, "Q4_K_M")
    assert [(one["kind"], one["numbers"]) for one in found["weights"]] == [
        ("Q4_K", 1024 * 512), ("Q6_K", 77 * 512), ("F32", 512),
    ]  # fmt: skip
    assert [one["bytes"] for one in found["weights"]] == [1024 * 2 * 144, 77 * 2 * 210, 2048]
    assert "Q4_K 93%, Q6_K 7%, F32 < 1%; 4.67 bits each" in shown(path)


def test_an_image_part_says_how_it_sees(tmp_path: Path) -> None:
    canary = {"facellm.canary.picture": "waves-1", "facellm.canary.tokens": 2, "facellm.canary.embedding": [0.5] * 64}
    path = eyes(tmp_path / "e.gguf", {"facellm.vision.pos_embd_layout": "cls_last", **canary})
    found = told(path)
    assert (found["kind"], found["language"], found["provenance"]) == ("image part (mmproj)", None, {})
    assert found["eyes"] == {
        "projector": "internvl", "tile": 448, "patch": 14, "tokens": 256, "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225], "layers": 24, "width": 1024, "gives_width": 512, "position_layout": "cls_last",
        "canary": {"picture": "waves-1", "tokens": 2},
    }  # fmt: skip
    assert "2 tokens of waves-1" in shown(path)
    bare = told(eyes(tmp_path / "bare.gguf"))["eyes"]
    assert (bare["canary"], bare["position_layout"]) == (None, None)
    assert "not marked" in shown(tmp_path / "bare.gguf")


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"clip.projector_type": "mlp", "clip.vision.image_size": 336}, 576),
        ({"clip.projector_type": "qwen2.5vl_merger"}, None),
        ({"clip.vision.patch_size": 0}, None),
        ({"clip.vision.projector.scale_factor": 4}, 64),
    ],
)
def test_tokens_a_tile_are_told_where_the_header_decides_them(
    tmp_path: Path, fields: dict[str, Any], tokens: int | None
) -> None:
    assert told(eyes(tmp_path / "e.gguf", fields))["eyes"]["tokens"] == tokens


def test_which_image_part_fits_and_why_the_others_do_not(tmp_path: Path) -> None:
    path = language(tmp_path / "a.gguf", {"facellm.pair": "one"})
    eyes(tmp_path / "same.gguf", {"facellm.pair": "one"})
    eyes(tmp_path / "other.gguf", {"facellm.pair": "two"})
    eyes(tmp_path / "narrow.gguf", width=256)
    eyes(tmp_path / "plain.gguf")
    eyes(tmp_path / "torn.gguf").write_bytes((tmp_path / "plain.gguf").read_bytes()[:-200])
    (tmp_path / "no.gguf").write_bytes(b"PK\x03\x04")
    language(tmp_path / "another-language.gguf")
    found = {one["file"]: (one["fits"], one["why"]) for one in told(path)["beside"]}
    assert found.pop("torn.gguf")[0] is False
    assert found == {
        "same.gguf": (True, "of the same pair"),
        "other.gguf": (False, "of pairs one and two"),
        "narrow.gguf": (False, "embeddings of 512 and of 256 numbers"),
        "plain.gguf": (True, "embeddings of 512 numbers; no pair id says more"),
        "no.gguf": (False, "no.gguf is not a GGUF file."),
    }
    assert "does not fit       narrow.gguf: embeddings of 512 and of 256 numbers" in shown(path)
    back = {one["file"]: one["fits"] for one in told(tmp_path / "other.gguf")["beside"]}
    assert back == {"a.gguf": False, "another-language.gguf": True, "no.gguf": False}


def test_of_a_long_template_the_first_lines_are_shown(tmp_path: Path) -> None:
    said = shown(language(tmp_path / "a.gguf"))
    assert "{# line 3 #}" in said
    assert "{# line 4 #}" not in said
    assert f"({len(TEMPLATE)} letters; whole with --json)" in said


def test_what_a_file_says_of_itself_cannot_steer_the_terminal(tmp_path: Path) -> None:
    assert "\x1b" not in shown(language(tmp_path / "a.gguf", {"general.name": "\x1b[2Jgone"}))


def test_a_shard_counts_the_set_and_names_what_is_missing(tmp_path: Path) -> None:
    tensors = {f"blk.{number}.ffn_up.weight": ("F32", (64, 64)) for number in range(3)}
    fields = {"general.name": "Large", "qwen2.block_count": 3}
    write(tmp_path / "large.gguf", "qwen2", fields, tensors, split_max_tensors=1)
    first, second, third = sorted(tmp_path.glob("large-*.gguf"))
    found = told(second)
    assert (found["kind"], found["name"], found["parameters"]) == ("language model", "Large", 3 * 64 * 64)
    assert found["shard"] == {"number": 2, "of": 3, "missing": []}
    assert found["bytes"] == sum(part.stat().st_size for part in (first, second, third))
    assert [one["file"] for one in told(eyes(tmp_path / "eyes.gguf"))["beside"]] == [first.name]
    third.unlink()
    found = told(first)
    assert found["shard"] == {"number": 1, "of": 3, "missing": [third.name]}
    assert "language model, shard 1 of 3" in shown(first)
    first.unlink()
    found = told(second)
    assert (found["kind"], found["parameters"]) == ("part of a model", 64 * 64)


def test_an_adapter_says_its_rank(tmp_path: Path) -> None:
    fields = {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 16.0}
    tensors = {"blk.0.attn_q.weight.lora_a": ("F32", (4, 64)), "blk.0.attn_q.weight.lora_b": ("F32", (64, 4))}
    found = told(write(tmp_path / "a.gguf", "qwen2", fields, tensors))
    assert (found["kind"], found["beside"]) == ("adapter", [])
    assert found["adapter"] == {"kind": "lora", "alpha": 16.0, "ranks": [4], "matrices": 1}


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"qwen2.context_length": "many"}, "context"),
        ({"qwen2.embedding_length": [1, 2]}, "width"),
        ({"tokenizer.ggml.pre": 7}, "pre_tokenizer"),
    ],
)
def test_fields_of_a_wrong_type_are_left_out(tmp_path: Path, fields: dict[str, Any], key: str) -> None:
    path = language(tmp_path / "a.gguf", fields)
    assert told(path)["language"][key] is None
    shown(path)


def test_bad_files_are_a_sentence_and_exit_code_1(tmp_path: Path) -> None:
    whole = language(tmp_path / "a.gguf").read_bytes()
    cases = {"none.gguf": "There is no file", "zip.gguf": "not a GGUF", "cut.gguf": "cut short", "torn.gguf": "damaged"}
    for name, data in (("zip.gguf", b"PK\x03\x04" * 9), ("cut.gguf", whole[:-99]), ("torn.gguf", whole[:600])):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder.gguf").mkdir()
    for name, says in {**cases, "folder.gguf": "is a folder"}.items():
        result = CliRunner().invoke(app, ["inspect", str(tmp_path / name), "--json"])
        assert (result.exit_code, result.stdout) == (1, ""), name
        assert says in result.stderr
        assert len(result.stderr.splitlines()) == 2


def test_the_tables_are_those_of_the_format() -> None:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

    assert {
        number: (GGMLQuantizationType(number).name, *GGML_QUANT_SIZES[number]) for number in GGML_QUANT_SIZES
    } == KINDS
    names = {int(kind): kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in LlamaFileType}
    del names[LlamaFileType.GUESSED]
    assert names == FILE_TYPES


def test_only_headers_are_read_and_nothing_heavy_is_loaded(tmp_path: Path) -> None:
    path = language(tmp_path / "a.gguf")
    with path.open("r+b") as file:  # 8 GB of weights, none of them on the disk
        file.truncate(8 << 30)
    eyes(tmp_path / "e.gguf")
    code = (
        "import sys; from facellm.models.inspect import inspect; from pathlib import Path\n"
        "inspect(Path(sys.argv[1])); print(sorted({'gguf', 'numpy', 'rich.table'} & set(sys.modules)))"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True,
        env={"PYTHONPATH": str(Path(sys.modules["facellm"].__file__ or "").parents[1]), "PATH": ""},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("[]\n", "")
    assert time.monotonic() - began < 5


def test_the_embedded_model_and_its_eyes_fit(nano: ModelPackage) -> None:
    found = told(nano.llm)
    assert (found["kind"], found["language"]["width"], found["licence"]) == ("language model", 576, "apache-2.0")
    assert {"file": nano.mmproj.name, "fits": True, "why": "of the same pair"} in found["beside"]
    assert (told(nano.mmproj)["eyes"]["tokens"], told(nano.mmproj)["eyes"]["tile"]) == (49, 224)
