"""How filters and activations lie in memory.

Filters: elements of the kernel (taps) outermost, then output positions, input channels and output
channels. Every product then reads, and every weight gradient writes, one contiguous block.
Activations: as torch's convolutions have it, channels-last where the input is.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from neurosim.nn.ops.local.geometry import Geometry


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


def is_channels_last(x: Tensor) -> bool:
    """Whether (N, C, *space) lies channels-last, by the order of strides as torch decides it.

    Strides tell even where sizes of 1 would make it both: a grey image can be channels-last. As
    in torch, sequences (one spatial axis) never are, and what cannot be told apart is not.
    """
    if x.ndim < 4 or x.stride(1) == 0:
        return False
    least = 0
    for axis in (1, *range(x.ndim - 1, 1, -1), 0):
        size, stride = x.shape[axis], x.stride(axis)
        if size == 0 or stride < least or (axis == 0 and least == x.stride(1)):
            return False
        least = stride * size
    return True


def with_channels_last(x: Tensor) -> Tensor:
    """(N, C, *space) with neighbouring channels side by side, copied where they are not."""
    return x if x.stride(1) == 1 else x.movedim(1, -1).contiguous().movedim(-1, 1)


def in_order(x: Tensor, channels_last: bool) -> Tensor:
    """What lies channels-last as it is, or copied into torch's usual order."""
    return x if channels_last else x.clone(memory_format=torch.contiguous_format)


def new_sum(like: Tensor) -> Tensor:
    """Zeros for the sum of many parts of a tensor like this one, to be rounded once at its end.

    In half precision a sum stops to grow when its parts are smaller than its last digit.
    """
    return torch.zeros_like(like, dtype=torch.promote_types(like.dtype, torch.float32))


def new_activation(
    like: Tensor, n: int, channels: int, space: Sequence[int], channels_last: bool
) -> Tensor:
    """An empty tensor (N, C, *space) of the dtype and on the device of another."""
    if channels_last:
        return like.new_empty(n, *space, channels).movedim(-1, 1)
    return like.new_empty(n, channels, *space)
