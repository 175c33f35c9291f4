"""Distances between filters against a loop over all pairs, and where the answer is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cosine

from analysis.trajectories import filters as module
from analysis.trajectories.filters import all_radii, filter_distances
from neurosim.errors import InvalidArgument
from neurosim.nn import LocallyConnected2d
from neurosim.training.filters import filter_distances as recorded_distances


def pair_by_pair(filters: np.ndarray, radius: int) -> tuple[float, float]:
    """The definition, one pair after the other."""
    size = filters.shape[:-1]
    weights = filters.astype(float) / np.linalg.norm(filters.astype(float))
    euclidean, angles = [], []
    for centre in itertools.product(*(range(radius, n - radius) for n in size)):
        for step in itertools.product(range(-radius, radius + 1), repeat=len(size)):
            if max(map(abs, step)) != radius:
                continue
            a = weights[centre]
            b = weights[tuple(i + d for i, d in zip(centre, step, strict=True))]
            euclidean.append(np.linalg.norm(a - b))
            angles.append(cosine(a, b))
    return float(np.mean(euclidean)), float(np.mean(angles))


def assert_by_pairs(filters: np.ndarray, tolerance: float) -> None:
    radii = all_radii(filters.shape[:-1])
    found = filter_distances(filters, None)
    assert found.radii == radii
    for radius, a, b in zip(radii, found.euclidean, found.cosine, strict=True):
        assert (a, b) == pytest.approx(pair_by_pair(filters, radius), abs=tolerance)


@settings(max_examples=30, deadline=None)
@given(
    size=st.lists(st.integers(3, 9), min_size=1, max_size=2),
    width=st.integers(1, 30),
    noise=st.sampled_from([1.0, 1e-2, 1e-5]),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    seed=st.integers(0, 99),
)
def test_equal_the_loop(size: list[int], width: int, noise: float, dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    filters = rng.normal(size=width) + noise * rng.normal(size=(*size, width))
    # A cosine's rounding grows as one of its filters is short beside the others.
    lengths = np.linalg.norm(filters, axis=-1)
    tolerance = 1e-9 if dtype == "float64" else 1e-6
    assert_by_pairs(filters.astype(dtype), tolerance * float(lengths.max() / lengths.min()))


def test_equal_the_loop_after_a_share() -> None:
    """Within grids filters are equal to the bit: products alone would be off by 1e-5."""
    rng = np.random.default_rng(0)
    grids = rng.normal(size=(3, 3, 64)).astype(np.float32)
    filters = np.tile(grids, (4, 4, 1))
    assert_by_pairs(filters, 1e-6)
    filters += 1e-6 * rng.normal(size=filters.shape).astype(np.float32)
    assert_by_pairs(filters, 1e-6)


def test_volumes() -> None:
    assert_by_pairs(np.random.default_rng(0).normal(size=(5, 4, 6, 7)), 1e-9)


def test_strips_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    filters = np.random.default_rng(0).normal(size=(11, 8, 5))
    whole = filter_distances(filters, None)
    for size in (1, 4000, 20_000):
        monkeypatch.setattr(module, "STRIP_BYTES", size)
        parts = filter_distances(filters, None)
        np.testing.assert_allclose(parts.euclidean, whole.euclidean, rtol=1e-12)
        np.testing.assert_allclose(parts.cosine, whole.cosine, rtol=1e-12)


def test_a_gradient_over_rows() -> None:
    """Filters i u: on the ring of 8, six lie a row away and two in the same row."""
    u = np.random.default_rng(0).normal(size=7)
    filters = np.broadcast_to(np.arange(6.0)[:, None, None] * u, (6, 5, 7))
    found = filter_distances(filters, [1, 2], "none")
    length = np.linalg.norm(u)
    # Of the 16 at radius 2: ten lie two rows away, four one row, two in the same row.
    assert found.euclidean == pytest.approx([length * 6 / 8, length * (10 * 2 + 4) / 16])
    assert found.cosine == pytest.approx([0, 0], abs=1e-12)  # all have the same direction
    unit = filter_distances(filters, [1], "position")
    assert unit.euclidean[0] == pytest.approx(0, abs=1e-6)
    by_layer = filter_distances(filters, [1]).euclidean[0]
    assert by_layer == pytest.approx(length * 6 / 8 / np.linalg.norm(filters))


def test_a_convolution_has_no_distances() -> None:
    filters = np.broadcast_to(np.random.default_rng(0).normal(size=9), (7, 7, 9))
    for dtype in (np.float32, np.float64):
        found = filter_distances(filters.astype(dtype), None)
        np.testing.assert_allclose([found.euclidean, found.cosine], 0, atol=1e-7)


def test_unit_filters() -> None:
    """Of filters of length 1, the squared distance is twice the cosine distance."""
    rng = np.random.default_rng(0)
    filters = rng.normal(size=(3, 3, 4))
    unit = filters / np.linalg.norm(filters, axis=-1, keepdims=True)
    direct = filter_distances(unit, [1], "none").euclidean
    assert filter_distances(filters, [1], "position").euclidean == pytest.approx(direct)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), factor=st.floats(1e-3, 1e3))
def test_invariances(seed: int, factor: float) -> None:
    """To the scale of the layer, the order of weights, and reflections of the map."""
    rng = np.random.default_rng(seed)
    filters = rng.normal(size=(6, 7, 5))
    wanted = filter_distances(filters, None)
    for other in (
        factor * filters,
        filters[..., rng.permutation(5)],
        filters[::-1],
        filters.swapaxes(0, 1),
    ):
        found = filter_distances(other, None)
        np.testing.assert_allclose(found.euclidean, wanted.euclidean, rtol=1e-9)
        np.testing.assert_allclose(found.cosine, wanted.cosine, rtol=1e-9)


def test_equal_what_training_records() -> None:
    torch.manual_seed(0)
    layer = LocallyConnected2d(3, 5, 3, 12, padding=1)
    filters = layer.weight.detach().flatten(2).numpy()
    found = filter_distances(filters, (1, 4))
    recorded = recorded_distances(layer, (1, 4)).numpy()
    np.testing.assert_allclose([found.euclidean, found.cosine], recorded.T, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("normalisation", ["layer", "position"])
def test_a_filter_of_zeros_has_no_direction(dtype: str, normalisation: str) -> None:
    """Also among filters with a mean, from which distances are computed."""
    filters = np.random.default_rng(0).normal(0.5, 1, (3, 3, 7)).astype(dtype)
    filters[0, 0] = 0
    found = filter_distances(filters, (1,), normalisation)
    centre, *others = filters[1, 1], *filters.reshape(9, 7)[[1, 2, 3, 5, 6, 7, 8]]
    angles = [cosine(centre.astype(float), other.astype(float)) for other in others]
    assert found.cosine[0] == pytest.approx(np.mean(angles), abs=1e-6)
    if normalisation == "position":
        assert found.euclidean[0] == pytest.approx(np.mean(np.sqrt(2 * np.array(angles))), abs=1e-6)


def test_small_maps_and_zeros() -> None:
    found = filter_distances(np.ones((4, 9, 2)), [1, 2])
    assert found.euclidean[0] == 0
    assert np.isnan([found.euclidean[1], found.cosine[1]]).all()
    assert filter_distances(np.ones((2, 2, 3)), None).radii == ()
    filters = np.ones((3, 3, 2))
    filters[0, 0] = 0  # one neighbour of the only centre
    found = filter_distances(filters, [1], "none")
    assert found.euclidean[0] == pytest.approx(math.sqrt(2) / 8)
    assert found.cosine[0] == pytest.approx(0, abs=1e-12)
    assert filter_distances(np.zeros((3, 3, 2)), [1]).euclidean[0] == 0


def test_bad_input() -> None:
    filters = np.ones((5, 5, 2))
    with pytest.raises(InvalidArgument, match=r"radii must be whole numbers >= 1.*got \(0,\)"):
        filter_distances(filters, [0])
    with pytest.raises(InvalidArgument, match="without repetitions"):
        filter_distances(filters, [1, 1])
    with pytest.raises(InvalidArgument, match="did you mean 'layer'"):
        filter_distances(filters, [1], "layers")
