"""Pixels in another order: what a network without a bias for images must not mind."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neurosim.errors import require


class PermutePixels(nn.Module):
    """The pixels of every image at places of one random permutation, all channels alike."""

    order: Tensor

    def __init__(self, size: Sequence[int], seed: int = 0) -> None:
        super().__init__()
        require(len(size) >= 1 and all(n >= 1 for n in size), "size", tuple(size), "sizes >= 1")
        self.size = tuple(size)
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(torch.Size(self.size).numel(), generator=generator)
        self.register_buffer("order", order)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, torch's name
        """(N, C, *size) -> (N, C, *size)."""
        self._check(input)
        return input.flatten(2)[..., self.order].unflatten(2, self.size)

    def undo(self, input: Tensor) -> Tensor:  # noqa: A002, torch's name
        """What `forward` was given, from what it returned."""
        self._check(input)
        return input.flatten(2)[..., self.order.argsort()].unflatten(2, self.size)

    def _check(self, images: Tensor) -> None:
        fits = tuple(images.shape[2:]) == self.size
        shape = f"of shape (N, C, {', '.join(map(str, self.size))})"
        require(fits, "input of PermutePixels", tuple(images.shape), shape)
