"""One convolution with K times the channels, then a weighted sum over the K (Algorithm 1).

    O = sum_k W^(k) . O^(k),    O^(k) = I * F^(k)

The K-fold output exists for a few images at a time only: each chunk is summed while it is in the
cache, and computed again in the backward pass, where the combining weights' gradient needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from neurosim.nn.ops.local.geometry import Geometry
from neurosim.nn.ops.local.layout import is_channels_last, new_activation, new_sum
from neurosim.nn.ops.low_rank.naive import low_rank_naive
from neurosim.nn.ops.transforms import backward_of

CHUNK = {"cpu": 2**22}  # bytes that the K-fold output of a chunk may have
ELSEWHERE = 2**28


def low_rank_wide(x: Tensor, combining: Tensor, bases: Tensor, geometry: Geometry) -> Tensor:
    """The product of `low_rank_naive`; of a single bank as autograd differentiates it."""
    if len(bases) == 1:
        return _combined(_banks(x, bases, geometry), _of(combining, slice(None)))
    return _Wide.apply(x, combining, bases, geometry)  # type: ignore[return-value]


class _Wide(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, combining: Tensor, bases: Tensor, geometry: Geometry
    ) -> Tensor:
        ctx.save_for_backward(x, combining, bases)
        ctx.geometry = geometry
        outputs, last = bases.shape[1], is_channels_last(x)
        y = new_activation(x, len(x), outputs, geometry.output_size, last)
        for part in _chunks(x, bases, geometry):
            y[part] = _combined(_banks(x[part], bases, geometry), _of(combining, part))
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # its derivatives are wanted as well
            reference = partial(low_rank_naive, geometry=ctx.geometry)
            return backward_of(reference, ctx, grad)
        (x, combining, bases), geometry = ctx.saved_tensors, ctx.geometry
        needed = ctx.needs_input_grad
        to_x = torch.empty_like(x) if needed[0] else None
        to_combining = new_sum(combining) if needed[1] else None
        to_bases = new_sum(bases) if needed[2] else None
        for part in _chunks(x, bases, geometry):
            seen, upstream, weights = x[part], grad[part], _of(combining, part)
            if to_combining is not None:
                change = _banks(seen, bases, geometry).mul_(upstream[:, None]).sum(2)
                if combining.ndim == 3:
                    to_combining += change.sum(0)
                else:
                    to_combining[part] = change
            if needed[0] or needed[2]:
                scaled = (weights[:, :, None] * upstream[:, None]).flatten(1, 2)
                of_x, of_bases = _convolution_backward(scaled, seen, bases, geometry, needed)
                if to_x is not None and of_x is not None:
                    to_x[part] = of_x
                if to_bases is not None and of_bases is not None:
                    to_bases += of_bases
        sums = (None if t is None else t.to(x.dtype) for t in (to_combining, to_bases))
        return to_x, *sums, None


def _chunks(x: Tensor, bases: Tensor, geometry: Geometry) -> Iterator[slice]:
    """Images to work on at once."""
    image = len(bases) * bases.shape[1] * geometry.positions * x.itemsize
    step = max(1, CHUNK.get(x.device.type, ELSEWHERE) // image)
    for start in range(0, max(1, len(x)), step):
        yield slice(start, start + step)


def _of(combining: Tensor, part: slice) -> Tensor:
    """Combining weights of some images, (n or 1, K, H', W')."""
    return combining[None] if combining.ndim == 3 else combining[part]


def _banks(x: Tensor, bases: Tensor, geometry: Geometry) -> Tensor:
    """The K-fold output, (n, K, O, H', W')."""
    g, wide = geometry, bases.flatten(0, 1)
    y = functional.conv2d(_padded(x, g), wide, None, g.stride, _padding(g), g.dilation)
    return y.unflatten(1, bases.shape[:2])


def _combined(banks: Tensor, combining: Tensor) -> Tensor:
    """sum_k W^(k) . O^(k)."""
    weights = combining[:, :, None]  # (n or 1, K, 1, H', W')
    total = banks[:, 0] * weights[:, 0]
    for k in range(1, banks.shape[1]):
        total.addcmul_(banks[:, k], weights[:, k])
    return total


def _convolution_backward(
    grad: Tensor, x: Tensor, bases: Tensor, geometry: Geometry, needed: Any
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the wide convolution by its input and its filters."""
    g, wide = geometry, bases.flatten(0, 1)
    mask = [needed[0], needed[2], False]
    to_x, to_wide, _ = torch.ops.aten.convolution_backward(
        grad, _padded(x, g), wide, None, g.stride, _padding(g), g.dilation, False, [0, 0], 1, mask
    )
    if to_x is not None and g.before != g.after:
        (top, left), (height, width) = g.before, g.input_size
        to_x = to_x[..., top : top + height, left : left + width]
    return to_x, None if to_wide is None else to_wide.view_as(bases)


def _padding(geometry: Geometry) -> tuple[int, ...]:
    """Zeros that the convolution itself adds: it can only add as many before as after."""
    return geometry.before if geometry.before == geometry.after else (0, 0)


def _padded(x: Tensor, geometry: Geometry) -> Tensor:
    """The input with those zeros that the convolution cannot add."""
    if geometry.before == geometry.after:
        return x
    return functional.pad(x, geometry.pads)
