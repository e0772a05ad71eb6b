"""FairFace as parquet, in the hub's schema (``HuggingFaceM4/FairFace``): images and their labels."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

#: Class names in the order of the hub's label ids.
AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+")
GENDERS = ("male", "female")
RACES = ("East Asian", "Indian", "Black", "White", "Middle Eastern", "Latino Hispanic", "Southeast Asian")

SPLITS = ("train", "validation")


@dataclass(frozen=True, slots=True)
class FairFaceItem:
    """One labelled crop. ``age``, ``gender`` and ``race`` index the tuples above."""

    file: str
    age: int
    gender: int
    race: int
    encoded: bytes

    def pixels(self) -> NDArray[np.uint8]:
        """RGB uint8 ``[224, 224, 3]``."""
        with Image.open(io.BytesIO(self.encoded)) as image:
            return np.asarray(image.convert("RGB"))


def read_fairface(root: Path, split: str) -> Iterator[FairFaceItem]:
    """Yield the items of ``split`` in file order, one row group in memory at a time.

    Raises ``FileNotFoundError`` when ``root`` holds no parquet of that split.
    """
    shards = sorted(root.glob(f"{split}-*.parquet"))
    if not shards:
        raise FileNotFoundError(f"no {split}-*.parquet in {root}")
    for shard in shards:
        for batch in pq.ParquetFile(shard).iter_batches(128):
            for row in batch.to_pylist():
                file = row.get("file") or row["image"].get("path") or ""
                yield FairFaceItem(file, row["age"], row["gender"], row["race"], row["image"]["bytes"])
