"""Theorems 1 and 2: lengths that a decoder could read, and bounds that hold in a small world."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.bounds import describe, map_length, subset_length, theorem1, theorem2
from neurosim.errors import InvalidArgument


@pytest.mark.parametrize("total", [1, 2, 5, 20])
def test_a_prefix_free_language_can_have_the_lengths_of_maps(total: int) -> None:
    """Kraft: 2^-length over all maps of n weights to k parameters, or to none, is at most 1."""
    kraft = 0.0
    for parameters in range(1, total + 1):
        for nonzeros in range(1, total + 1):
            maps = math.comb(total, nonzeros) * parameters**nonzeros
            kraft += maps * 2 ** -map_length(nonzeros, parameters, total)
    assert kraft <= 1


@pytest.mark.parametrize("total", [1, 2, 7, 30])
def test_and_those_of_subsets(total: int) -> None:
    subsets = (math.comb(total, n) * 2 ** -subset_length(n, total) for n in range(total + 1))
    assert sum(subsets) == pytest.approx(1)


@given(total=st.integers(1, 10**9), share=st.floats(0, 1))
def test_a_subset_is_shorter_than_a_map(total: int, share: float) -> None:
    nonzeros = max(1, round(share * total))
    assert subset_length(nonzeros, total) <= map_length(nonzeros, nonzeros, total) + 1
    assert subset_length(nonzeros, total) >= 0


def test_by_hand() -> None:
    assert theorem1(0.1, 1000, 5000, 0.1) == pytest.approx(
        0.1 + math.sqrt((1000 + math.log(20)) / 10_000)
    )
    assert theorem2(0.0, 3, 7.0, 100, 50, 0.05, 16) == pytest.approx(
        math.sqrt((48 + 7 + math.log(4000)) / 100)
    )
    assert map_length(4, 2, 8) == 4 * 4 + 2 * 3


def test_fewer_weights_are_a_shorter_description() -> None:
    """Of S-FC's size on CIFAR-10: vacuous, but in the order of sparsity."""
    found = [describe(256_000_000, n, 0.0, 50_000) for n in (10**5, 10**6, 10**7)]
    assert [d.theorem2 for d in found] == sorted(d.theorem2 for d in found)
    for d in found:
        assert d.subset < d.mapped < d.dense
        assert 1 < d.theorem1_subset < d.theorem2 < d.theorem1
    assert describe(1000, 0, 0.5, 10**6).theorem1_subset < 0.51


def test_bounds_hold_for_a_lookup_table() -> None:
    """Memorising m random labels of b bits is described by at least m b bits: no bound below 1/2.

    Its training error is 0 and its error 1/2 by construction.
    """
    for samples in (10, 1000, 10**6):
        assert theorem1(0.0, samples, samples) >= 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theorem1(1.2, 10, 10), "loss must be from 0 to 1, got 1.2"),
        (lambda: theorem1(0, -1, 10), "length must be >= 0"),
        (lambda: theorem1(0, 1, 0), "samples must be >= 1"),
        (lambda: theorem1(0, 1, 1, 1.0), "delta must be between 0 and 1"),
        (lambda: theorem2(0, 5, 1, 4, 10), "parameters must be from 1 to total = 4, got 5"),
        (lambda: map_length(9, 1, 8), "nonzeros must be from 0 to total = 8, got 9"),
    ],
)
def test_bad_input(call: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call()  # type: ignore[operator]
