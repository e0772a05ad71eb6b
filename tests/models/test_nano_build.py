"""The nano's builder: the deltas arrive in the weights, the bytes are the same each time, nothing is half-written."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest

from facellm.core.errors import ModelPartError
from facellm.core.package import ModelPackage
from facellm.models.filelock import locked
from facellm.models.gguf_header import read_header
from facellm.models.nano.build import build_nano
from facellm.models.nano.clip_onnx import IMAGE_MEAN, IMAGE_STD, Weights, read_clip_tower
from facellm.models.nano.pair import RECORD, damaged_files, nano_is_current
from facellm.models.nano.smollm2 import LanguagePart
from facellm.models.store import AssetMissing, AssetStore, StoreUnwritable
from tests.models.trained import some_tensors, write_deltas

Q8_STEPS = 127


@pytest.fixture(scope="module")
def built(assets: AssetStore, tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    folder = tmp_path_factory.mktemp("nano")
    return build_nano(assets, out=folder / "out", deltas=write_deltas(folder / "deltas.safetensors"))


@pytest.fixture(scope="module")
def tensors(built: ModelPackage) -> dict[str, np.ndarray]:
    """What lies in both files, as float32."""
    from gguf import GGUFReader, quants

    found = {}
    for file in (built.llm, built.mmproj):
        for tensor in GGUFReader(file).tensors:
            shape = tuple(int(side) for side in reversed(tensor.shape))
            found[tensor.name] = quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)
    return found


@pytest.fixture(scope="module")
def language(assets: AssetStore) -> LanguagePart:
    return LanguagePart(assets.ensure("smollm2-135m-q4_1"))


@pytest.fixture(scope="module")
def tower(assets: AssetStore) -> Weights:
    return read_clip_tower(assets.ensure("clip-vit-b16-int8"))


def product(module_name: str) -> np.ndarray:
    """B·A of ``some_tensors``, in Hugging Face's order of rows."""
    found = []
    for part in ("lora_b", "lora_a"):
        name = f"{module_name}.{part}"
        values = some_tensors()[name].astype(np.float64)
        found.append(values * some_tensors().get(f"{name}.scale", np.ones(len(values))).astype(np.float64)[:, None])
    return found[0] @ found[1]


def rotary_pairs_side_by_side(matrix: np.ndarray, width: int = 64) -> np.ndarray:
    """llama.cpp's order of query and key rows, written out: row j of a head's half h goes to 2·j + h."""
    out = np.empty_like(matrix)
    for row in range(len(matrix)):
        head, within = divmod(row, width)
        half, j = divmod(within, width // 2)
        out[head * width + 2 * j + half] = matrix[row]
    return out


@pytest.mark.parametrize(
    ("name", "module_name", "is_rotary"),
    [
        ("blk.3.attn_q.weight", "language.layers.3.self_attn.q_proj", True),
        ("blk.3.attn_k.weight", "language.layers.3.self_attn.k_proj", True),
        ("blk.3.ffn_down.weight", "language.layers.3.mlp.down_proj", False),
    ],
)
def test_language_lora_arrives_in_llama_cpps_order(
    tensors: dict[str, np.ndarray], language: LanguagePart, name: str, module_name: str, is_rotary: bool
) -> None:
    change = 2.0 * product(module_name)
    change = rotary_pairs_side_by_side(change) if is_rotary else change
    wanted = language.weight(name) + change
    step = np.abs(wanted).reshape(-1, 32).max(1) / Q8_STEPS  # Q8_0 has a scale for every 32 numbers
    error = np.abs(tensors[name] - wanted).reshape(-1, 32).max(1)
    assert np.median(np.abs(change)) > 5 * np.median(step), "the change must stand out from rounding"
    assert (error <= 0.51 * step + 1e-3 * np.abs(wanted).max()).all()


def test_an_untouched_matrix_and_the_norms_stay(tensors: dict[str, np.ndarray], language: LanguagePart) -> None:
    source = language.weight("blk.4.attn_q.weight")
    assert np.abs(tensors["blk.4.attn_q.weight"] - source).max() <= np.abs(source).max() / Q8_STEPS
    for name in ("blk.3.attn_norm.weight", "output_norm.weight"):
        assert np.array_equal(tensors[name], language.weight(name))
    assert set(language.names()) <= set(tensors)


def test_image_lora_arrives(tensors: dict[str, np.ndarray], tower: Weights) -> None:
    change = 1.5 * product("tower.layers.7.mlp.fc1")
    assert np.median(np.abs(change)) > 0.05
    wanted = tower["encoder.layers.7.mlp.fc1.weight"] + change
    assert np.allclose(tensors["v.blk.7.ffn_up.weight"], wanted, rtol=1e-3, atol=1e-6)
    plain = tower["encoder.layers.6.mlp.fc1.weight"]
    assert np.allclose(tensors["v.blk.6.ffn_up.weight"], plain, rtol=1e-3, atol=1e-6)


def test_the_projector_is_the_trained_one(tensors: dict[str, np.ndarray]) -> None:
    for number, name in ((0, "norm"), (1, "fc1"), (3, "fc2")):
        assert np.array_equal(tensors[f"mm.model.mlp.{number}.weight"], some_tensors()[f"projector.{name}.weight"])


def test_raw_pixels_give_what_normalised_ones_give(
    built: ModelPackage, tensors: dict[str, np.ndarray], tower: Weights
) -> None:
    """Scale and mean stand in the kernel and the position table; every pixel value is exact in float16."""
    header = read_header(built.mmproj)
    values = np.arange(256) / 255
    scaled = (values - header["clip.vision.image_mean"][0]) / header["clip.vision.image_std"][0]
    assert np.array_equal(scaled.astype(np.float16).astype(np.float64) * 64, np.arange(256))
    patch = np.random.default_rng(0).integers(0, 256, (3, 16, 16)).astype(np.float64)
    normalised = (patch / 255 - np.array(IMAGE_MEAN)[:, None, None]) / np.array(IMAGE_STD)[:, None, None]
    wanted = np.tensordot(tower["embeddings.patch_embedding.weight"], normalised, 3)
    wanted = wanted + tower["embeddings.position_embedding.weight"][1:]
    found = np.tensordot(tensors["v.patch_embd.weight"], patch / 64, 3) + tensors["v.position_embd.weight"]
    assert np.abs(found - wanted).max() < 2e-3
    class_token = tower["embeddings.class_embedding"] + tower["embeddings.position_embedding.weight"][0]
    assert np.array_equal(tensors["v.class_embd"], class_token[None])


def test_headers_say_what_belongs_together(built: ModelPackage) -> None:
    language, eyes = read_header(built.llm), read_header(built.mmproj)
    assert language["facellm.pair"] == eyes["facellm.pair"]
    assert language["facellm.version"] == eyes["facellm.version"] == "t1"
    assert eyes["clip.vision.projection_dim"] == language["llama.embedding_length"] == 576
    assert eyes["clip.projector_type"] == "nemotron_v2_vl"
    assert len(eyes["facellm.canary.embedding"]) == 576 * eyes["facellm.canary.tokens"] == 8 * 576
    assert eyes["facellm.canary.picture"] == "waves-1"
    assert language["facellm.choice_temperature"] == pytest.approx(1.25)
    assert language["general.license"] == "apache-2.0"
    assert "CLIP" in language["general.attribution"]


def test_the_chat_template_is_plain_chatml(built: ModelPackage) -> None:
    from jinja2 import Template

    template = read_header(built.llm)["tokenizer.chat_template"]
    text = Template(template).render(messages=[{"role": "user", "content": "Hi"}], add_generation_prompt=True)
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_the_pairs_id_is_read_without_the_vocabulary(built: ModelPackage) -> None:
    assert set(read_header(built.llm, until="facellm.pair")) <= {"general.architecture", "facellm.pair"}


def test_the_same_bytes_each_time(built: ModelPackage, assets: AssetStore, tmp_path: Path) -> None:
    """In another process, with one BLAS thread and another hash seed."""
    deltas = built.llm.parent.parent / "deltas.safetensors"
    script = (
        "import sys; from pathlib import Path; from facellm.models.nano.build import build_nano;"
        "from facellm.models.store import AssetStore;"
        "build_nano(AssetStore(Path(sys.argv[1])), out=Path(sys.argv[2]), deltas=Path(sys.argv[3]))"
    )
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONHASHSEED": "7",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", script, str(assets.root), str(tmp_path / "out"), str(deltas)]
    subprocess.run(command, check=True, env=environment, timeout=240)
    for file in (built.llm, built.mmproj):
        assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes(), file.name
    visible = sorted(path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith("."))
    assert visible == sorted([built.llm.name, built.mmproj.name, RECORD])


def test_progress_never_falls_and_ends_at_one(assets: AssetStore, tmp_path: Path) -> None:
    seen: list[tuple[str, float]] = []
    deltas = write_deltas(tmp_path / "deltas.safetensors")
    build_nano(assets, lambda stage, share: seen.append((stage, share)), out=tmp_path / "out", deltas=deltas)
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    assert len({stage for stage, _ in seen}) >= 3


def test_a_killed_build_leaves_no_half_file_and_the_next_one_sweeps(assets: AssetStore, tmp_path: Path) -> None:
    deltas, out = write_deltas(tmp_path / "deltas.safetensors"), tmp_path / "out"
    script = (
        "import os, sys; from pathlib import Path; from facellm.models.nano import build as b;"
        "from facellm.models.store import AssetStore;"
        # the second file of the pair is being written: the most there can be of a half-written model
        "end = lambda stage, share: os.kill(os.getpid(), 9) if stage.endswith('tower') and share > 0.95 else None;"
        "b.build_nano(AssetStore(Path(sys.argv[1])), end, out=Path(sys.argv[2]), deltas=Path(sys.argv[3]))"
    )
    command = [sys.executable, "-c", script, str(assets.root), str(out), str(deltas)]
    done = subprocess.run(command, check=False, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, timeout=240)
    assert done.returncode == -9
    assert [path.name for path in out.iterdir() if not path.name.startswith(".")] == []
    assert list(out.glob(".*.part"))
    build_nano(assets, out=out, deltas=deltas)
    assert list(out.glob(".*.part")) == []
    assert damaged_files(out) == []


def test_lora_of_another_shape_is_an_error_and_leaves_nothing(assets: AssetStore, tmp_path: Path) -> None:
    tensors = some_tensors()
    tensors["language.layers.3.self_attn.q_proj.lora_b"] = tensors["language.layers.3.self_attn.q_proj.lora_b"][:192]
    deltas = write_deltas(tmp_path / "d.safetensors", tensors)
    with pytest.raises(ModelPartError, match=r"blk\.3\.attn_q"):
        build_nano(assets, out=tmp_path / "out", deltas=deltas)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".build.lock"]


def test_without_the_carriers_and_offline_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACELLM_OFFLINE", "1")
    deltas = write_deltas(tmp_path / "d.safetensors")
    with pytest.raises(AssetMissing, match="SmolLM2"):
        build_nano(AssetStore(tmp_path / "home"), deltas=deltas)


def test_current_means_built_from_these_deltas(assets: AssetStore, built: ModelPackage, tmp_path: Path) -> None:
    deltas = built.llm.parent.parent / "deltas.safetensors"
    store = AssetStore(tmp_path, bundle=tmp_path / "none")
    store.models.mkdir()
    assert not nano_is_current(store, deltas)
    (store.models / "nano").symlink_to(built.llm.parent)
    began = time.perf_counter()
    assert nano_is_current(store, deltas)
    assert time.perf_counter() - began < 0.1
    other = write_deltas(
        tmp_path / "other.safetensors", some_tensors() | {"projector.fc2.weight": np.ones((576, 576), np.float16)}
    )
    assert not nano_is_current(store, other)


def test_who_waited_for_another_build_does_not_build_again(
    assets: AssetStore, built: ModelPackage, tmp_path: Path
) -> None:
    deltas = built.llm.parent.parent / "deltas.safetensors"
    store = AssetStore(tmp_path, bundle=tmp_path / "none")
    store.assets.symlink_to(assets.assets)
    folder = store.models / "nano"
    with ThreadPoolExecutor(1) as pool:
        with locked(folder / ".build.lock"):
            waiting = pool.submit(build_nano, store, deltas=deltas)
            assert not wait([waiting], 1.5).done
            for file in built.llm.parent.iterdir():
                if not file.name.startswith("."):
                    (folder / file.name).symlink_to(file)
        package = waiting.result(20)
    assert package.llm.is_symlink()
    assert damaged_files(folder) == []


def test_a_pair_in_use_is_told_from_a_full_disk(
    assets: AssetStore, built: ModelPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows a loaded file cannot be replaced."""
    deltas = built.llm.parent.parent / "deltas.safetensors"

    def refuse(_part: Path, file: Path) -> None:
        raise PermissionError(13, "Access is denied", str(file))

    monkeypatch.setattr("facellm.models.nano.build.publish", refuse)
    (tmp_path / RECORD).write_text("{}", encoding="utf-8")
    with pytest.raises(StoreUnwritable, match="cannot be replaced") as caught:
        build_nano(assets, out=tmp_path, deltas=deltas)
    assert "Close FaceLLM" in caught.value.hint
    assert (tmp_path / RECORD).is_file()


def test_a_changed_byte_is_found(built: ModelPackage, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(built.llm.parent, folder)
    assert damaged_files(folder) == []
    with (folder / built.mmproj.name).open("rb+") as file:
        file.seek(50_000_000)
        file.write(b"\x55\xaa\x55")
    assert damaged_files(folder) == [built.mmproj.name]
    (folder / RECORD).unlink()
    assert damaged_files(folder) is None
