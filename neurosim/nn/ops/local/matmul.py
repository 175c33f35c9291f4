"""Locally connected layers as batched matrix products, one for every element of the kernel.

Activations lie position-major inside, (*space, N, C): the input that one tap meets is then a
slice of the padded input, and the product over all positions is one `bmm` that is added to the
output. No tap's slice outlives its product, so memory is that of two activations, not of
prod(kernel_size) of them. Weights are stored taps outermost, (taps, positions, C / groups, O),
so that every product reads and every gradient writes one contiguous block.

Forward, input gradient and weight gradient are the three contractions of the same trilinear
form, sum y . (x * w): each one's derivatives are the other two, which is how they are registered
with autograd, to any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from neurosim.nn.ops.local.geometry import Geometry


def _inside(x: Tensor, geometry: Geometry | None = None) -> Tensor:
    """(N, C, *space) to (*space, N, C): from channels-last a copy of whole channel vectors.

    With a geometry, the zeros of its padding are added in the same pass.
    """
    moved = x.permute(*range(2, x.ndim), 0, 1)
    if geometry is None or geometry.padded_size == geometry.input_size:
        return moved.contiguous()
    padded = x.new_zeros(*geometry.padded_size, *moved.shape[-2:])
    padded[geometry.inner] = moved
    return padded


def _outside(x: Tensor) -> Tensor:
    """(*space, N, C) to (N, C, *space), channels-last in memory.

    Always a copy, even for N = 1: what leaves an operator owns its memory, from its first byte on.
    """
    space = x.ndim - 2
    x = x.permute(space, *range(space), space + 1)
    return x.clone(memory_format=torch.contiguous_format).movedim(-1, 1)


def _split(x: Tensor, geometry: Geometry) -> Tensor:
    """(*output, N, C) as (positions * groups, N, C / groups), a view where there is one group.

    All sizes are spelled out here and in `_join`: torch cannot infer one when the batch is empty.
    """
    n, channels = x.shape[-2:]
    groups, positions = geometry.groups, geometry.positions
    if groups == 1:
        return x.reshape(positions, n, channels)
    x = x.reshape(positions, n, groups, channels // groups).transpose(1, 2)
    return x.reshape(positions * groups, n, channels // groups)


def _join(x: Tensor, geometry: Geometry) -> Tensor:
    """(positions * groups, N, C / groups) as (*output, N, C)."""
    n, channels = x.shape[-2:]
    groups = geometry.groups
    if groups > 1:
        x = x.reshape(geometry.positions, groups, n, channels).transpose(1, 2)
    return x.reshape(*geometry.output_size, n, groups * channels)


def _filters(weight: Tensor, geometry: Geometry) -> Tensor:
    """(positions, C / groups, O) of one tap as (positions * groups, C / groups, O / groups)."""
    groups = geometry.groups
    if groups == 1:
        return weight
    positions, channels, outputs = weight.shape
    weight = weight.reshape(positions, channels, groups, outputs // groups).transpose(1, 2)
    return weight.reshape(positions * groups, channels, outputs // groups)


def _forward(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """(N, C, *input), (taps, positions, C / groups, O) -> (N, O, *output)."""
    x = _inside(x, geometry)
    groups = geometry.groups
    shape = (geometry.positions * groups, x.shape[-2], weight.shape[-1] // groups)
    y = x.new_empty(shape)
    for tap, (part, filters) in enumerate(zip(geometry.taps(), weight, strict=True)):
        seen, filters = _split(x[part], geometry), _filters(filters, geometry)
        if tap == 0:
            torch.bmm(seen, filters, out=y)
        else:
            y.baddbmm_(seen, filters)
    return _outside(_join(y, geometry))


def _input_gradient(grad: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """(N, O, *output), (taps, positions, C / groups, O) -> (N, C, *input)."""
    g = _split(_inside(grad), geometry)
    channels = weight.shape[2] * geometry.groups
    x = grad.new_zeros(*geometry.padded_size, grad.shape[0], channels)
    for part, filters in zip(geometry.taps(), weight, strict=True):
        x[part] += _join(torch.bmm(g, _filters(filters, geometry).mT), geometry)
    return _outside(x[geometry.inner])


def _weight_gradient(grad: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
    """(N, O, *output), (N, C, *input) -> (taps, positions, C / groups, O)."""
    g, x = _split(_inside(grad), geometry), _inside(x, geometry)
    groups, positions = geometry.groups, geometry.positions
    channels, outputs = x.shape[-1] // groups, grad.shape[1]
    taps = list(geometry.taps())
    weight = grad.new_empty(len(taps), positions, channels, outputs)
    for part, filters in zip(taps, weight, strict=True):
        seen = _split(x[part], geometry).mT
        if groups == 1:
            torch.bmm(seen, g, out=filters)
        else:
            product = torch.bmm(seen, g).view(positions, groups, channels, outputs // groups)
            filters.copy_(product.transpose(1, 2).reshape(positions, channels, outputs))
    return weight


# Registered with torch, so that compilation sees one node with a known shape and derivative.
# A geometry travels as `sizes`, one flat list, because an operator's schema knows no dataclass.


def _pack(geometry: Geometry) -> list[int]:
    g = geometry
    parts = (g.input_size, g.kernel_size, g.stride, g.dilation, g.before, g.after)
    return [g.groups, *(int(size) for part in parts for size in part)]


def _unpack(sizes: Sequence[int]) -> Geometry:
    groups, *flat = sizes
    axes = len(flat) // 6
    parts = [tuple(flat[i : i + axes]) for i in range(0, len(flat), axes)]
    return Geometry(*parts, groups=groups)


def _channels_last(like: Tensor, n: int, channels: int, space: Sequence[int]) -> Tensor:
    """An empty tensor (N, C, *space) laid out as `_outside` lays it out."""
    return like.new_empty(n, *space, channels).movedim(-1, 1)


@torch.library.custom_op("neurosim::local_forward", mutates_args=())
def local_forward(x: Tensor, weight: Tensor, sizes: Sequence[int]) -> Tensor:
    """The layer's output; see `_forward`."""
    return _forward(x, weight, _unpack(sizes))


@torch.library.custom_op("neurosim::local_input_gradient", mutates_args=())
def local_input_gradient(grad: Tensor, weight: Tensor, sizes: Sequence[int]) -> Tensor:
    """The gradient with respect to the input; see `_input_gradient`."""
    return _input_gradient(grad, weight, _unpack(sizes))


@torch.library.custom_op("neurosim::local_weight_gradient", mutates_args=())
def local_weight_gradient(grad: Tensor, x: Tensor, sizes: Sequence[int]) -> Tensor:
    """The gradient with respect to the weight; see `_weight_gradient`."""
    return _weight_gradient(grad, x, _unpack(sizes))


@local_forward.register_fake
def _(x, weight, sizes):
    return _channels_last(x, x.shape[0], weight.shape[-1], _unpack(sizes).output_size)


@local_input_gradient.register_fake
def _(grad, weight, sizes):
    geometry = _unpack(sizes)
    channels = weight.shape[2] * geometry.groups
    return _channels_last(grad, grad.shape[0], channels, geometry.input_size)


@local_weight_gradient.register_fake
def _(grad, x, sizes):
    geometry = _unpack(sizes)
    channels = x.shape[1] // geometry.groups
    taps = prod(geometry.kernel_size)
    return grad.new_empty(taps, geometry.positions, channels, grad.shape[1])


def _needed(ctx: Any, index: int, gradient: Callable[[], Tensor]) -> Tensor | None:
    return gradient() if ctx.needs_input_grad[index] else None


def _save(ctx: Any, inputs: tuple, output: Tensor) -> None:
    first, second, ctx.sizes = inputs
    ctx.save_for_backward(first, second)


def _forward_backward(ctx: Any, grad: Tensor) -> tuple:
    x, weight = ctx.saved_tensors
    return (
        _needed(ctx, 0, lambda: local_input_gradient(grad, weight, ctx.sizes)),
        _needed(ctx, 1, lambda: local_weight_gradient(grad, x, ctx.sizes)),
        None,
    )


def _input_gradient_backward(ctx: Any, upstream: Tensor) -> tuple:
    grad, weight = ctx.saved_tensors
    return (
        _needed(ctx, 0, lambda: local_forward(upstream, weight, ctx.sizes)),
        _needed(ctx, 1, lambda: local_weight_gradient(grad, upstream, ctx.sizes)),
        None,
    )


def _weight_gradient_backward(ctx: Any, upstream: Tensor) -> tuple:
    grad, x = ctx.saved_tensors
    return (
        _needed(ctx, 0, lambda: local_forward(x, upstream, ctx.sizes)),
        _needed(ctx, 1, lambda: local_input_gradient(grad, upstream, ctx.sizes)),
        None,
    )


local_forward.register_autograd(_forward_backward, setup_context=_save)
local_input_gradient.register_autograd(_input_gradient_backward, setup_context=_save)
local_weight_gradient.register_autograd(_weight_gradient_backward, setup_context=_save)


def to_storage(weight: Tensor, geometry: Geometry) -> Tensor:
    """(*output, O, C / groups, *kernel) as (taps, positions, C / groups, O), if possible a view."""
    axes = len(geometry.kernel_size)
    space, kernel = range(axes), range(axes + 2, 2 * axes + 2)
    weight = weight.permute(*kernel, *space, axes + 1, axes)
    taps = prod(geometry.kernel_size)
    return weight.reshape(taps, geometry.positions, *weight.shape[-2:])


def from_storage(weight: Tensor, geometry: Geometry) -> Tensor:
    """The inverse of `to_storage`, always a view."""
    axes = len(geometry.kernel_size)
    weight = weight.view(*geometry.kernel_size, *geometry.output_size, *weight.shape[-2:])
    kernel, space = range(axes), range(axes, 2 * axes)
    return weight.permute(*space, 2 * axes + 1, 2 * axes, *kernel)


def local_matmul(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """As `local_naive`, fastest where the weight lies in memory as `from_storage` lays it."""
    return local_forward(x, to_storage(weight, geometry), _pack(geometry))
