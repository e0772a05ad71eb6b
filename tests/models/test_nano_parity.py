"""llama.cpp and PyTorch see the same: what is trained in one is what answers in the other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from facellm.core.canary import waves
from facellm.models.nano import clip_onnx
from facellm.models.nano.build import build_nano
from facellm.models.store import AssetStore
from tests.models.trained import METADATA, noise, some_tensors, write_deltas

torch = pytest.importorskip("torch", reason="PyTorch is not installed (run.py setup training)")

SIDE = clip_onnx.IMAGE_SIZE
RANK = 8
#: Measured: mean 0.99995, see docs/decisions/nano-model.md. A token shifted by one patch gives 0.7.
MEAN_COSINE = 0.9999
#: Some patches carry activations of up to ±95, where float16 is coarse; the worst token measured is 0.99.
WORST_COSINE = 0.97


def pictures(shared: Path | None) -> np.ndarray:
    """The canary picture, the astronaut's face cropped in several ways, and portraits where they are there."""
    from PIL import Image
    from skimage import data

    astronaut = Image.fromarray(data.astronaut())
    boxes = [(150, 20, 310, 180), (170, 40, 290, 160), (180, 60, 270, 150), (0, 0, 512, 512)]
    found = [waves(SIDE)] + [np.asarray(astronaut.crop(box).resize((SIDE, SIDE))) for box in boxes]
    for path in sorted((shared / "portraits").rglob("*.jpg"))[:5] if shared else []:
        picture = Image.open(path).convert("RGB")
        side = min(picture.size)
        found.append(np.asarray(picture.crop((0, 0, side, side)).resize((SIDE, SIDE))))
    return np.stack(found)


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    """LoRA on every matrix of the upper image blocks, as training has it, besides some on the language model."""
    found = some_tensors()
    for block in range(6, clip_onnx.BLOCKS):
        for name in (
            "self_attn.q_proj",
            "self_attn.k_proj",
            "self_attn.v_proj",
            "self_attn.out_proj",
            "mlp.fc1",
            "mlp.fc2",
        ):
            wide_in, wide_out = 3072 if name == "mlp.fc2" else 768, 3072 if name == "mlp.fc1" else 768
            found[f"tower.layers.{block}.{name}.lora_a"] = noise(RANK, wide_in, scale=0.03, seed=block)
            found[f"tower.layers.{block}.{name}.lora_b"] = noise(wide_out, RANK, scale=0.03, seed=block + 1)
    return found


def in_pytorch(images: np.ndarray, weights: clip_onnx.Weights, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """The training code's own modules, LoRA beside the weights and not merged into them."""
    from facellm_training.nano.projector import Projector
    from facellm_training.nano.tower import Tower, normalise, pixel_shuffle

    # Tower's LoRA scale is alpha / rank, the same for every matrix.
    tower = Tower(weights, rank=RANK, alpha=RANK * float(METADATA["tower_lora_scale"]))
    projector = Projector()
    with torch.no_grad():
        for index, block in tower.blocks.items():
            for name in block.MATRICES:
                lora, key = block.linear[name.replace(".", "_")], f"tower.layers.{index}.{name}"
                if f"{key}.lora_a" in tensors:
                    lora.a = torch.nn.Parameter(torch.from_numpy(tensors[f"{key}.lora_a"]).float())
                    lora.b = torch.nn.Parameter(torch.from_numpy(tensors[f"{key}.lora_b"]).float())
        for name in ("norm", "fc1", "fc2"):
            getattr(projector, name).copy_(torch.from_numpy(tensors[f"projector.{name}.weight"]).float())
        return projector(pixel_shuffle(tower(tower.embed(normalise(images))))).numpy()


def in_llama(images: np.ndarray, assets: AssetStore, tensors: dict[str, np.ndarray], folder: Path) -> np.ndarray:
    package = build_nano(assets, out=folder / "nano", deltas=write_deltas(folder / "deltas.safetensors", tensors))
    np.save(folder / "in.npy", images)
    script = Path(__file__).with_name("llama_embed.py")
    arguments = [str(package.llm), str(package.mmproj), str(folder / "in.npy"), str(folder / "out.npy")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(
        [sys.executable, str(script), *arguments], check=True, capture_output=True, env=environment, timeout=240
    )
    return np.load(folder / "out.npy")


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


@pytest.mark.slow
def test_image_embeddings_are_the_same(
    assets: AssetStore,
    tensors: dict[str, np.ndarray],
    tmp_path: Path,
    project_root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shared = project_root.parent / "shared" / "data"
    images = pictures(shared if shared.is_dir() else None)
    theirs = in_llama(images, assets, tensors, tmp_path)
    weights = clip_onnx.read_clip_tower(assets.path("clip-vit-b16-int8"))
    ours = in_pytorch(images, weights, tensors)
    assert theirs.shape == ours.shape == (len(images), 49, 576)
    same = cosines(ours, theirs)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(images)} pictures: token cosine mean {same.mean():.6f}, worst token {same.min():.5f}, "
            f"means by picture {np.round(same.mean(1), 6).tolist()}\n"
        )
    assert same.mean() >= MEAN_COSINE
    assert same.min() >= WORST_COSINE
    # Lengths too: a wrong scale keeps the cosine.
    lengths = np.linalg.norm(theirs, axis=-1) / np.linalg.norm(ours, axis=-1)
    assert abs(lengths.mean() - 1) < 0.01


@pytest.mark.slow
def test_the_comparison_notices_what_the_lora_changes(assets: AssetStore, tensors: dict[str, np.ndarray]) -> None:
    weights = clip_onnx.read_clip_tower(assets.path("clip-vit-b16-int8"))
    plain = {name: tensor for name, tensor in tensors.items() if not name.startswith("tower.")}
    image = waves(SIDE)[None]
    assert cosines(in_pytorch(image, weights, tensors), in_pytorch(image, weights, plain)).mean() < 0.99
