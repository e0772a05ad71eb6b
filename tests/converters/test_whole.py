"""Weights that an adapter brings along whole, read from their file in pieces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("safetensors")

from safetensors.numpy import save_file

from facellm_converters.checkpoint.tensors import opened_file
from facellm_converters.lora.whole import Whole, whole

TABLE = np.random.default_rng(0).standard_normal((3000, 700)).astype(np.float16)


@pytest.fixture(params=[np.float16, np.float32])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Whole:
    path = tmp_path / "adapter.safetensors"
    save_file({"before": np.ones(7, np.float32), "table": TABLE.astype(request.param)}, path)
    with opened_file(path) as tensors:
        return whole(tensors, "table")


def test_rows_are_the_tensors(kept: Whole) -> None:
    assert kept.shape == (3000, 700)
    for start, stop in ((0, None), (5, 6), (2990, 4000), (7, 7)):
        found = kept.rows(start, stop)
        assert found.dtype == np.float32
        assert np.array_equal(found, TABLE[start:stop].astype(np.float32))


def test_a_part_is_a_weight_of_its_own(kept: Whole) -> None:
    part = kept.part(100, 250)
    assert part.shape == (150, 700)
    assert np.array_equal(part.rows(10, 20), TABLE[110:120].astype(np.float32))
    assert np.array_equal(part.rows(), TABLE[100:250].astype(np.float32))


def test_pieces_are_all_of_it(kept: Whole) -> None:
    pieces = dict(kept.pieces())
    assert len(pieces) > 1
    assert np.array_equal(np.concatenate(list(pieces.values())), TABLE.astype(np.float32))
