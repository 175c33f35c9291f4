"""Locally connected layers as batched matrix products, one for every element of the kernel.

Activations lie position-major inside, (*space, groups, N, C / groups): the input that one tap
meets at all positions is then a slice, and its product with the tap's filters one `bmm` that is
added to the output. Taps that differ along the first axis only meet rows of one and the same copy
of the input (`shifts`), so that a 3x3 kernel copies the input three times, not nine. All that is
done for a few rows of the output at a time (`bands`): copies stay in the cache, and no more of
them is in memory than a band has.

Rows of every product are channel vectors. Activations that lie channels-first are therefore copied
once on the way in and once on the way out; `bmm` would otherwise copy them matrix by matrix, or
every shift element by element.

A tap of a few channels, such as those of an image, is too thin for a product of its own: there
all taps of a position become one (`_columns`), kernel-fold copies of what is small anyway.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from neurosim.nn.ops.local.geometry import Band, Geometry, Shift, bands, shifts
from neurosim.nn.ops.local.layout import in_order, new_activation, with_channels_last
from neurosim.nn.ops.local.operators import register

THIN = 4  # channels up to which all taps share one product
BAND = 2**20  # bytes of activations that a band may have on a CPU: about its second-level cache


def _bands(geometry: Geometry, x: Tensor, channels: int) -> tuple[Band, ...]:
    """Bands for a batch like `x`; on other devices than CPUs, everything at once."""
    rows = geometry.output_size[0]
    if x.device.type == "cpu":
        row = geometry.positions // rows * len(x) * channels * _working(x).itemsize
        rows = max(1, BAND // max(1, row))
    return bands(geometry, rows)


def _working(x: Tensor) -> torch.dtype:
    """CPUs have no fast products in half precision, and adding up taps in it loses digits."""
    return torch.float32 if x.device.type == "cpu" and x.itemsize < 4 else x.dtype


def _inside(x: Tensor, groups: int) -> Tensor:
    """(N, C, *space) viewed as (*space, groups, N, C / groups)."""
    x = x.permute(*range(2, x.ndim), 0, 1)
    return x.unflatten(-1, (groups, x.shape[-1] // groups)).transpose(-3, -2)


def _buffer(x: Tensor, parts: tuple[Band, ...]) -> Tensor:
    """Room for one shift after the other of (*space, groups, N, C / groups) like x."""
    first = parts[0].geometry  # no other band is larger
    rows = max(shift.size[0] for shift in shifts(first))
    size = (rows, *first.output_size[1:], *x.shape[-3:])
    return x.new_empty(size, dtype=_working(x))


def _shifted(x: Tensor, shift: Shift, buffer: Tensor) -> Tensor:
    """The input as a shift has it, with its zeros."""
    shifted = buffer[: shift.size[0]]
    for axis, inside in enumerate(shift.target):
        for margin in (slice(0, inside.start), slice(inside.stop, shift.size[axis])):
            if margin.start < margin.stop:
                shifted.movedim(axis, 0)[margin].zero_()
    shifted[shift.target] = x[shift.source]
    return shifted


def _filters(weight: Tensor, geometry: Geometry, dtype: torch.dtype) -> Tensor:
    """(positions, C / groups, O) of one tap as (positions * groups, C / groups, O / groups)."""
    positions, channels, outputs = weight.shape
    groups = geometry.groups
    weight = weight.to(dtype)
    if groups == 1:
        return weight
    weight = weight.reshape(positions, channels, groups, outputs // groups).transpose(1, 2)
    return weight.reshape(positions * groups, channels, outputs // groups)


# The three products of one tap. Depthwise ones have a single term each, so that they are no
# matrix products but multiplications of (positions, N, groups, O / groups), element by element.


def _is_depthwise(weight: Tensor, geometry: Geometry) -> bool:
    """Whether filters (..., C / groups, O) see one channel each."""
    return weight.shape[-2] == 1 and geometry.groups > 1


def _groups_inside(weight: Tensor, geometry: Geometry) -> int:
    """Groups that activations are split into; those of depthwise filters stay channels."""
    return 1 if _is_depthwise(weight, geometry) else geometry.groups


def _apart(x: Tensor, geometry: Geometry) -> Tensor:
    """(positions, N or 1, O) as (positions, N or 1, groups, O / groups)."""
    return x.unflatten(-1, (geometry.groups, x.shape[-1] // geometry.groups))


def _add_output(y: Tensor, seen: Tensor, weight: Tensor, geometry: Geometry) -> None:
    if _is_depthwise(weight, geometry):
        filters = _apart(weight.to(y.dtype), geometry)
        _apart(y, geometry).addcmul_(seen.unsqueeze(-1), filters)
    else:
        y.baddbmm_(seen, _filters(weight, geometry, y.dtype))


def _add_input_gradient(x: Tensor, grad: Tensor, weight: Tensor, geometry: Geometry) -> None:
    if _is_depthwise(weight, geometry):
        upstream, filters = _apart(grad, geometry), _apart(weight.to(x.dtype), geometry)
        for output in range(upstream.shape[-1]):  # of each channel
            x.addcmul_(upstream[..., output], filters[..., output])
    else:
        x.baddbmm_(grad, _filters(weight, geometry, x.dtype).mT)


def _write_weight_gradient(weight: Tensor, grad: Tensor, seen: Tensor, geometry: Geometry) -> None:
    if _is_depthwise(weight, geometry):
        product = _apart(grad, geometry) * seen.unsqueeze(-1)
        weight.copy_(product.sum(1).view_as(weight))
    elif geometry.groups == 1 and weight.dtype == grad.dtype:
        torch.bmm(seen.mT, grad, out=weight)
    else:
        product = torch.bmm(seen.mT, grad)
        product = product.unflatten(0, (len(weight), geometry.groups)).transpose(1, 2)
        _apart(weight, geometry).copy_(product)


# All taps of a position in one product, where each has a few channels only.


def _is_thin(x: Tensor, geometry: Geometry) -> bool:
    return geometry.groups == 1 and x.shape[1] <= THIN and prod(geometry.kernel_size) > 1


def _columns(seen: Tensor, geometry: Geometry, buffer: Tensor) -> Tensor:
    """What every position meets, (positions, N, taps C); `seen` is (*space, 1, N, C)."""
    taps, (count, channels) = prod(geometry.kernel_size), seen.shape[-2:]
    columns = buffer.new_empty(*geometry.output_size, 1, count, taps, channels)
    for shift in shifts(geometry):
        shifted = _shifted(seen, shift, buffer)
        for tap, rows in shift.taps:
            columns[..., tap, :] = shifted[rows]
    return columns.view(geometry.positions, count, taps * channels)


def _at_positions(weight: Tensor) -> Tensor:
    """Filters (taps, positions, C, O) as (positions, taps C, O)."""
    return weight.transpose(0, 1).flatten(1, 2)


# The three contractions, band by band.


def _forward(x: Tensor, weight: Tensor, geometry: Geometry, channels_last: bool) -> Tensor:
    outputs, groups = weight.shape[-1], _groups_inside(weight, geometry)
    x = with_channels_last(x)
    y = new_activation(x, len(x), outputs, geometry.output_size, channels_last=True)
    x_inside, y_inside = _inside(x, groups), _inside(y, groups)
    parts = _bands(geometry, x, max(x.shape[1], outputs))
    buffer = _buffer(x_inside, parts)
    for band in parts:
        seen, filters, part = x_inside[band.inputs], weight[:, band.positions], band.geometry
        size = (*part.output_size, groups, len(x), outputs // groups)
        if _is_thin(x, geometry):
            columns = _columns(seen, part, buffer)
            product = torch.bmm(columns, _at_positions(filters).to(columns.dtype))
            y_inside[band.outputs] = product.view(size)
            continue
        total = x.new_zeros(size, dtype=_working(x))
        for shift in shifts(part):
            shifted = _shifted(seen, shift, buffer)
            for tap, rows in shift.taps:
                _add_output(total.flatten(0, -3), shifted[rows].flatten(0, -3), filters[tap], part)
        y_inside[band.outputs] = total
    return in_order(y, channels_last)


def _input_gradient(
    grad: Tensor, weight: Tensor, geometry: Geometry, channels_last: bool
) -> Tensor:
    channels, groups = weight.shape[2] * geometry.groups, _groups_inside(weight, geometry)
    grad = with_channels_last(grad)
    working = grad.new_empty(0, dtype=_working(grad))  # bands overlap: round their sum, once
    x = new_activation(working, len(grad), channels, geometry.input_size, channels_last=True)
    x.zero_()
    g_inside, x_inside = _inside(grad, groups), _inside(x, groups)
    parts = _bands(geometry, grad, max(channels, weight.shape[-1]))
    buffer = _buffer(x_inside, parts)
    for band in parts:
        met, filters, part = x_inside[band.inputs], weight[:, band.positions], band.geometry
        upstream = g_inside[band.outputs].to(x.dtype).flatten(0, -3)
        for shift in shifts(part):
            shifted = buffer[: shift.size[0]].zero_()
            for tap, rows in shift.taps:
                _add_input_gradient(shifted[rows].flatten(0, -3), upstream, filters[tap], part)
            met[shift.source].add_(shifted[shift.target])
    return in_order(x.to(grad.dtype), channels_last)


def _weight_gradient(grad: Tensor, x: Tensor, geometry: Geometry, channels_last: bool) -> Tensor:
    grad, x = with_channels_last(grad), with_channels_last(x)
    outputs, channels = grad.shape[1], x.shape[1]
    taps = prod(geometry.kernel_size)
    weight = grad.new_empty(taps, geometry.positions, channels // geometry.groups, outputs)
    groups = _groups_inside(weight, geometry)
    g_inside, x_inside = _inside(grad, groups), _inside(x, groups)
    parts = _bands(geometry, x, max(channels, outputs))
    buffer = _buffer(x_inside, parts)
    for band in parts:
        seen, filters, part = x_inside[band.inputs], weight[:, band.positions], band.geometry
        upstream = g_inside[band.outputs].to(_working(grad)).flatten(0, -3)
        if _is_thin(x, geometry):
            product = torch.bmm(_columns(seen, part, buffer).mT, upstream)
            filters.copy_(product.unflatten(1, (len(weight), channels)).transpose(0, 1))
            continue
        for shift in shifts(part):
            shifted = _shifted(seen, shift, buffer)
            for tap, rows in shift.taps:
                met = shifted[rows].flatten(0, -3)
                _write_weight_gradient(filters[tap], upstream, met, part)
    return weight


local_matmul = register("matmul", _forward, _input_gradient, _weight_gradient)
