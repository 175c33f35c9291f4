"""Pixels in an order of their own, the same for all images."""

from __future__ import annotations

import pytest
import torch

from neurosim.errors import InvalidArgument
from neurosim.nn import PermutePixels


def test_pixels_are_permuted_alike_and_back() -> None:
    permute, x = PermutePixels((4, 5), seed=3), torch.randn(2, 3, 4, 5)
    y = permute(x)
    torch.testing.assert_close(permute.undo(y), x)
    torch.testing.assert_close(y.flatten(2).sort(-1).values, x.flatten(2).sort(-1).values)
    assert not y.equal(x)
    one = x[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(permute(one)[:, 0], permute(one)[:, 2])
    assert PermutePixels((4, 5), seed=3).order.equal(permute.order)


def test_size() -> None:
    with pytest.raises(InvalidArgument, match="size must be sizes >= 1"):
        PermutePixels(())


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 1, 3, 4), (4, 4)])
def test_images_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    permute = PermutePixels((4, 4))
    for call in (permute, permute.undo):
        with pytest.raises(InvalidArgument, match=r"must be of shape \(N, C, 4, 4\), got"):
            call(torch.zeros(shape))
