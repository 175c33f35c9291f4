"""Distances between filters, against a plain loop over positions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from neurosim.nn import LocallyConnected2d
from neurosim.training.filters import filter_distances


def by_hand(layer: LocallyConnected2d, radius: int) -> tuple[float, float]:
    weight = layer.weight.detach().double().numpy()
    height, width = weight.shape[:2]
    weight = weight.reshape(height, width, -1) / np.linalg.norm(weight)
    euclidean, cosine = [], []
    for i, j in itertools.product(range(radius, height - radius), range(radius, width - radius)):
        for k, m in itertools.product(range(height), range(width)):
            if max(abs(k - i), abs(m - j)) == radius:
                a, b = weight[i, j], weight[k, m]
                euclidean.append(np.linalg.norm(a - b))
                cosine.append(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    return float(np.mean(euclidean)), float(np.mean(cosine))


@pytest.mark.parametrize("size", [(9, 12), (3, 9), (11, 10)])
@pytest.mark.parametrize("init", ["independent", 0.5, 1e-3])
def test_distances(size: tuple[int, int], init: str | float) -> None:
    """Nearly equal filters included, whose products cancel."""
    torch.manual_seed(0)
    layer = LocallyConnected2d(2, 3, (3, 2), size, padding="same", init=init)  # type: ignore[arg-type]
    found = filter_distances(layer, (1, 2, 4)).numpy()
    for row, radius in zip(found, (1, 2, 4), strict=True):
        if min(size) <= 2 * radius:
            assert np.isnan(row).all()
        else:
            np.testing.assert_allclose(row, by_hand(layer, radius), rtol=2e-4)


def test_equal_filters_have_no_distance() -> None:
    layer = LocallyConnected2d(2, 3, 3, 10, init=0.0)
    np.testing.assert_allclose(filter_distances(layer, (1,)).numpy(), 0, atol=1e-7)
    layer.weight.data.zero_()
    assert torch.equal(filter_distances(layer, (1, 2)), torch.zeros(2, 2))
    small = LocallyConnected2d(2, 3, 3, 2, padding=1)
    assert torch.isnan(filter_distances(small)).all()


def test_scale_does_not_matter() -> None:
    layer = LocallyConnected2d(2, 3, 3, 7)
    before = filter_distances(layer, (1, 2))
    layer.weight.data.mul_(37)
    torch.testing.assert_close(filter_distances(layer, (1, 2)), before)
