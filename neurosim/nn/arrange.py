"""Where the units of a fully connected layer look, and an order of them that makes a map.

The units of a hidden layer may change places, if all that belongs to them follows: the function
stays the same. A layer that has learned local receptive fields from a fully connected start has
them in any order; `arrange` gives every unit the place of a map where a receptive field would
cover most of its weight, so that `to_local` can take it for what it has become.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional

from neurosim.errors import InvalidArgument, require
from neurosim.nn.dense import Dense, UnitNorm, local_weight, localised_geometry

TOGETHER = 4096  # units that are placed at once: the effort grows with the cube of their number


def magnitude(layer: Dense) -> Tensor:
    """Sum of |w| over input channels: where every unit looks, (units, H, W)."""
    weight = layer.weight.detach()
    return weight.abs().view(-1, *layer.input_shape).sum(1).float()


def covered(layer: Dense) -> Tensor:
    """Sum of |w| in the receptive field of every place of the map, (units, places)."""
    local = localised_geometry(layer)
    g = local.geometry
    if local.axes != 2 or local.groups > 1 or max(g.dilation) > 1:
        raise InvalidArgument(
            "layer must have receptive fields on an image, without groups or dilation, to arrange "
            f"its units by, got {local}"
        )
    padded = functional.pad(magnitude(layer), g.pads)
    sums = functional.avg_pool2d(padded, g.kernel_size, g.stride, divisor_override=1)
    return sums.flatten(1)


@torch.no_grad()
def arrange(layer: Dense, norm: UnitNorm | None, after: nn.Linear) -> Tensor:
    """Put every unit where a receptive field covers most of its weight, in place; their order.

    `norm` normalises the layer's units and `after` is the linear layer that reads them: both
    follow, so that outputs stay. Of all orders it is the one that covers most weight in total
    (exactly for up to 4,096 units, else within as large groups of channels). Units of one place
    are then given to channels so that filters of a channel resemble each other (`_channels`).
    """
    _check_units(layer.out_features, norm, after)
    of = assign(covered(layer), layer.output_shape[0])
    _permute(of, layer, norm, after)
    order = _channels(layer)
    _permute(order, layer, norm, after)
    return of[order]


def _check_units(units: int, norm: UnitNorm | None, after: nn.Linear) -> None:
    """Refuse layers that do not read these units and no others."""
    read = after.in_features
    require(read == units, "after.in_features", read, f"{units}, the layer's units")
    if norm is not None:
        own = norm.num_features
        require(own == units, "norm.num_features", own, f"{units}, the layer's units")


def assign(places: Tensor, channels: int) -> Tensor:
    """Which unit goes to each channel and place, (units,): most of (units, places) in total."""
    count = places.shape[1]
    of, values = np.empty((channels, count), dtype=np.int64), places.cpu().numpy()
    width = max(1, TOGETHER // count)
    for first in range(0, channels, width):
        group = slice(first, min(first + width, channels))
        units = np.arange(channels * count).reshape(channels, count)[group].ravel()
        cost = -np.tile(values[units], (1, group.stop - group.start))
        _, slots = linear_sum_assignment(cost)
        chosen = np.empty_like(units)
        chosen[slots] = units
        of[group] = chosen.reshape(-1, count)
    return torch.from_numpy(of.ravel())


def _channels(layer: Dense, rounds: int = 10) -> Tensor:
    """An order within every place by which each channel's filters are alike.

    k-means with one filter of each place per cluster: prototypes are the mean filters of channels,
    and the filters of a place are assigned to them by the sum of their inner products.
    """
    local = localised_geometry(layer)
    filters, _ = local_weight(layer.weight, local)  # (*output, O, C, *k); the rest is not seen
    flat = filters.flatten(0, local.axes - 1).flatten(2).cpu().numpy()  # (P, O, C k k)
    flat = flat / np.maximum(np.linalg.norm(flat, axis=2, keepdims=True), 1e-12)
    places, channels = flat.shape[:2]
    order = np.tile(np.arange(channels), (places, 1))
    # The first prototypes are one place's own filters: means of a random order are all alike.
    prototypes = flat[np.argmax(np.abs(flat).sum((1, 2)))]
    for _ in range(rounds):
        before = order.copy()
        for place in range(places):
            _, order[place] = linear_sum_assignment(-prototypes @ flat[place].T)
        prototypes = np.take_along_axis(flat, order[..., None], 1).mean(0)
        if (order == before).all():
            break
    return torch.from_numpy((order.T * places + np.arange(places)).ravel())


def _permute(order: Tensor, layer: Dense, norm: UnitNorm | None, after: nn.Linear) -> None:
    """Unit i becomes unit order[i] of before, with its numbers in all three layers."""
    order = order.to(layer.weight.device)
    tensors = [layer.weight, layer.bias, layer.present]
    if norm is not None:
        tensors += [norm.weight, norm.bias, norm.running_mean, norm.running_var]
    for tensor in tensors:
        if tensor is not None:
            tensor.copy_(tensor[order])
    for name in ("weight", "present", "present_inputs"):  # one column or element per unit
        tensor = getattr(after, name, None)
        if tensor is not None:
            units = tensor.view(-1, len(order))
            units.copy_(units[:, order])
