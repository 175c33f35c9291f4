"""Form the filters of a few rows of positions, and apply them as a locally connected layer does.

    F^(p) = sum_k w_p^(k) F^(k)        2 K operations per weight, whatever the batch
    y[n, p] = I_p * F^(p)              2 N operations per weight, as many as of one convolution

so that K costs next to nothing where there are many images, and filters exist for a few rows of
the output at a time only. Backward, the gradient of these filters is reduced at once to those of
the bases and the combining weights. For combining weights that all examples share.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from neurosim.nn.ops.local.geometry import Band, Geometry, bands
from neurosim.nn.ops.local.layout import is_channels_last, new_activation, new_sum
from neurosim.nn.ops.low_rank.naive import low_rank_naive
from neurosim.nn.ops.transforms import backward_of

BAND = {"cpu": 2**22}  # bytes that the filters of a band, or its patches, may have
ELSEWHERE = 2**28


def low_rank_local(x: Tensor, combining: Tensor, bases: Tensor, geometry: Geometry) -> Tensor:
    """The product of `low_rank_naive`, for combining weights (K, H', W')."""
    shared = combining.flatten(1).t()  # (positions, K)
    flat = bases.permute(0, 3, 4, 2, 1).flatten(1, 3)  # (K, taps C, O)
    return _Local.apply(x, shared, flat.contiguous(), geometry)  # type: ignore[return-value]


def _reference(x: Tensor, combining: Tensor, bases: Tensor, geometry: Geometry) -> Tensor:
    """The same for operands as `_Local` has them."""
    tables = combining.t().unflatten(1, geometry.output_size)
    banks = bases.unflatten(1, (*geometry.kernel_size, -1)).permute(0, 4, 3, 1, 2)
    return low_rank_naive(x, tables, banks, geometry)


class _Local(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, combining: Tensor, bases: Tensor, geometry: Geometry
    ) -> Tensor:
        ctx.save_for_backward(x, combining, bases)
        ctx.geometry = geometry
        outputs = bases.shape[-1]
        y = new_activation(x, len(x), outputs, geometry.output_size, is_channels_last(x))
        y_inside = y.permute(2, 3, 0, 1)
        for band in _bands(x, bases, geometry):
            seen = torch.bmm(_patches(x, band), _filters(combining[band.positions], bases))
            y_inside[band.outputs] = seen.view(*band.geometry.output_size, len(x), outputs)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # its derivatives are wanted as well
            return backward_of(partial(_reference, geometry=ctx.geometry), ctx, grad)
        (x, combining, bases), needed = ctx.saved_tensors, ctx.needs_input_grad
        to_x = new_sum(x) if needed[0] else None  # bands overlap
        to_combining = torch.zeros_like(combining) if needed[1] else None
        to_bases = new_sum(bases) if needed[2] else None
        for band in _bands(x, bases, ctx.geometry):
            upstream = grad[:, :, band.outputs].permute(2, 3, 0, 1).flatten(0, 1)  # (P, N, O)
            weights = combining[band.positions]
            if to_x is not None:
                _add_patches(to_x, torch.bmm(upstream, _filters(weights, bases).mT), band)
            if to_combining is None and to_bases is None:
                continue
            change = torch.bmm(_patches(x, band).mT, upstream).flatten(1)  # (P, taps C O)
            if to_bases is not None:
                to_bases += (weights.t() @ change).view_as(bases)
            if to_combining is not None:
                to_combining[band.positions] = change @ bases.flatten(1).t()
        to_x, to_bases = (None if t is None else t.to(x.dtype) for t in (to_x, to_bases))
        return to_x, to_combining, to_bases, None


def _bands(x: Tensor, bases: Tensor, geometry: Geometry) -> tuple[Band, ...]:
    _, inputs, outputs = bases.shape
    row = geometry.output_size[1] * inputs * max(outputs, len(x)) * x.itemsize
    return bands(geometry, max(1, BAND.get(x.device.type, ELSEWHERE) // row))


def _filters(combining: Tensor, bases: Tensor) -> Tensor:
    """(P, taps C, O) of a band's positions (Eq. 2)."""
    return (combining @ bases.flatten(1)).view(len(combining), *bases.shape[1:])


def _patches(x: Tensor, band: Band) -> Tensor:
    """What every position of a band sees, (P, N, taps C)."""
    g = band.geometry
    seen = functional.pad(x[:, :, band.inputs], g.pads).permute(2, 3, 0, 1)
    taps = list(g.taps())
    patches = x.new_empty(*g.output_size, len(x), len(taps), x.shape[1])
    for number, tap in enumerate(taps):
        patches[:, :, :, number] = seen[tap]
    return patches.flatten(3).flatten(0, 1)


def _add_patches(x: Tensor, patches: Tensor, band: Band) -> None:
    """Add to an input what `_patches` took from it."""
    g = band.geometry
    (top, left), (height, width) = g.before, g.input_size
    seen = x.new_zeros(*g.padded_size, len(x), x.shape[1])
    taps = patches.view(*g.output_size, len(x), prod(g.kernel_size), x.shape[1])
    for number, tap in enumerate(g.taps()):
        seen[tap] += taps[:, :, :, number]
    x[:, :, band.inputs] += seen[top : top + height, left : left + width].permute(2, 3, 0, 1)
