"""Which conversations a step has, and how they are laid into rows."""

from __future__ import annotations

import numpy as np
import pytest

from facellm_training.lora.corpus import Part
from facellm_training.lora.packing import Order, _permutation, alone, pack, share, together
from facellm_training.lora.template import Encoded

LENGTHS = [int(one) for one in np.random.default_rng(0).integers(20, 300, 83)]


def test_an_epoch_has_each_conversation_once() -> None:
    order = Order(83, 10, 2.0, 5)
    taken = [one for step in range(order.steps) for one in order.step(step)]
    assert len(taken) == 166
    assert sorted(taken[:83]) == sorted(taken[83:]) == list(range(83))
    assert taken[:83] != taken[83:]
    assert order.step(7) == Order(83, 10, 2.0, 5).step(7) != Order(83, 10, 2.0, 6).step(7)


def test_part_of_an_epoch() -> None:
    order = Order(83, 10, 0.5, 0)
    assert [len(order.step(step)) for step in range(order.steps)] == [10, 10, 10, 10, 2]


def test_rows_hold_all_and_no_more_than_fits() -> None:
    chosen = list(range(5, 75))
    rows = pack(chosen, LENGTHS, 512)
    assert sorted(one for row in rows for one in row) == chosen
    assert all(sum(LENGTHS[one] for one in row) <= 512 for row in rows)
    assert len(rows) <= 11 / 9 * sum(LENGTHS[one] for one in chosen) / 512 + 1


def test_without_packing_each_conversation_is_a_row() -> None:
    rows = alone(range(83), LENGTHS)
    assert sorted(one for (one,) in rows) == list(range(83))
    passes = together(rows, 8)
    assert [row for one in passes for row in one] == rows
    assert {len(one) for one in passes} == {8, 3}


@pytest.mark.parametrize("devices", [1, 2, 3, 8])
def test_devices_get_equally_many_passes_and_each_counts_once(devices) -> None:
    passes = together(pack(range(40), LENGTHS, 512), 2)
    shares = [share(passes, devices, device) for device in range(devices)]
    assert len({len(one) for one in shares}) == 1
    counted = [passed for one in shares for passed, counts in one if counts]
    assert sorted(counted) == sorted(passes)


def test_a_long_plan_shuffles_an_epoch_once() -> None:
    """A million conversations are 12,500 steps; an order and all lengths made anew for each took an hour and a half."""
    _permutation.cache_clear()
    order = Order(1000, 10, 2.0, seed=4)
    taken = [order.step(number) for number in range(order.steps)]
    assert _permutation.cache_info().misses == 2
    assert sorted(one for step in taken[:100] for one in step) == list(range(1000))


def test_lengths_are_counted_once_and_follow_what_is_added() -> None:
    part = Part()
    ids = np.zeros(5, np.int32)
    part.encoded.append(Encoded(ids, ids, 0))
    assert part.lengths == [5] and part.lengths is part.lengths
    part.encoded.append(Encoded(ids[:3], ids[:3], 0))
    assert part.lengths == [5, 3]
