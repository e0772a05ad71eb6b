"""Runs the frozen lower blocks of the image tower once per picture and keeps the result on disk.

Two views per training picture (as it is; mirrored with small changes), one per validation
picture. A killed run continues where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facellm.models.nano import clip_onnx
from facellm_training.data.fairface import FairFaceItem, read_fairface
from facellm_training.nano.augment import flipped_view
from facellm_training.nano.tower import TOKENS, Tower, normalise


@dataclass(frozen=True, slots=True)
class FeatureCache:
    """``features``: float16 ``[pictures · views, 197, 768]``, memory-mapped; ``items``: labels by row."""

    features: NDArray[np.float16]
    items: list[dict[str, Any]]

    def read(self, rows: Sequence[int] | NDArray[np.int64], device: torch.device) -> Tensor:
        """The features of ``rows`` as float32 on ``device``."""
        return torch.from_numpy(self.features[rows]).to(device).float()


def cache_split(
    root: Path, split: str, out: Path, tower: Tower, *, views: int = 1, batch: int = 16, seed: int = 0
) -> None:
    """Fill ``out/SPLIT.f16`` and ``out/SPLIT.jsonl``. Resumes at the last whole batch."""
    out.mkdir(parents=True, exist_ok=True)
    items = list(read_fairface(root, split))
    rows = [(item, view) for view in range(views) for item in items]
    path, state = out / f"{split}.f16", out / f"{split}.done"
    mode: Literal["r+", "w+"] = (
        "r+" if path.exists() and path.stat().st_size == len(rows) * TOKENS * clip_onnx.WIDTH * 2 else "w+"
    )
    store = np.memmap(path, np.float16, mode, shape=(len(rows), TOKENS, clip_onnx.WIDTH))
    done = int(state.read_text()) if mode == "r+" and state.exists() else 0
    with (out / f"{split}.jsonl").open("w") as labels:
        for item, view in rows:
            labels.write(
                json.dumps({"file": item.file, "view": view, "age": item.age, "gender": item.gender, "race": item.race})
                + "\n"
            )
    for start in range(done, len(rows), batch):
        part = rows[start : start + batch]
        pixels = np.stack([view_pixels(item, view, seed) for item, view in part])
        with torch.inference_mode():
            seen = tower(tower.embed(normalise(pixels).to(tower.patch.device)))
            store[start : start + len(part)] = seen.half().cpu().numpy()
        if start // batch % 50 == 49:
            store.flush()
            state.write_text(str(start + len(part)))
            print(f"cached {split} {start + len(part)}/{len(rows)}", flush=True)
    store.flush()
    state.write_text(str(len(rows)))


def view_pixels(item: FairFaceItem, view: int, seed: int) -> NDArray[np.uint8]:
    """The pixels of one view; the same for the same file and seed."""
    pixels = item.pixels()
    if view == 0:
        return pixels
    number = int.from_bytes(item.file.encode()[-8:], "little")
    return flipped_view(pixels, np.random.default_rng([seed, view, number]))


def open_cache(out: Path, split: str) -> FeatureCache:
    """Open a finished cache. Raises ``FileNotFoundError`` or ``ValueError`` when it is not finished."""
    items = [json.loads(line) for line in (out / f"{split}.jsonl").open()]
    done = int((out / f"{split}.done").read_text())
    if done != len(items):
        raise ValueError(f"cache of {split} in {out} holds {done} of {len(items)} rows; run it to the end")
    features = np.memmap(out / f"{split}.f16", np.float16, "r", shape=(len(items), TOKENS, clip_onnx.WIDTH))
    return FeatureCache(features, items)
