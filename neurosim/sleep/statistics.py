"""How equal a layer's filters are: signal-to-noise ratios, spread and norm.

With the mean and variance over neurons of every component j (a tap, an input and an output
channel), three measures of the same thing, which are not functions of each other:

    snr          mean_j mean_j^2 / var_j          (Eq. 6)
    inverse_snr  mean_j var_j / mean_j^2          (what Figs. 4 to 6 plot the logarithm of)
    mean_to_std  mean_j |mean_j| / std_j          (what the published network code logs)

each over the interior positions of the layer, and over each grid, averaged over grids. Within a
grid all variances are 0 after an instant share, and the first and last are infinite.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from neurosim.nn.local import LocallyConnected
from neurosim.nn.ops.local.matmul import to_storage
from neurosim.sleep.frame import Frame, frame_of


@dataclass(frozen=True)
class LayerStatistics:
    """Measures of one layer at one time."""

    snr: float
    inverse_snr: float
    mean_to_std: float
    grid_snr: float
    grid_inverse_snr: float
    grid_mean_to_std: float
    spread: float  # root mean square deviation from the mean of the grid
    norm: float  # of all weights of the layer

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The measures in order."""
        return tuple(field.name for field in fields(cls))


def layer_statistics(layer: LocallyConnected) -> LayerStatistics:
    """All measures of a layer; one wait for the device."""
    return LayerStatistics(*measure(layer).tolist())


@torch.no_grad()
def measure(layer: LocallyConnected) -> Tensor:
    """The measures as a tensor on the layer's device, in the order of `LayerStatistics`.

    Positions are split into cells, each grid's interior and its border: all measures follow from
    the cells' means and variances by the law of total variance.
    """
    storage = to_storage(layer.weight.detach(), layer.geometry)
    storage = storage.to(torch.promote_types(storage.dtype, torch.float32))
    cells = _cells(frame_of(layer))
    chunk = 1 if storage.device.type == "cpu" else len(storage)  # one tap stays in the cache
    moments = [_moments(taps, cells) for taps in storage.split(chunk)]
    mean, variance = (torch.cat(parts) for parts in zip(*moments, strict=True))  # (taps, cells, .)

    grids = mean.unflatten(1, (-1, 2)), variance.unflatten(1, (-1, 2)), cells.members.view(-1, 2)
    grid_mean, grid_variance = _pooled(*grids, dim=2)
    inside = mean[:, 0::2], variance[:, 0::2], cells.members[0::2]
    inside_mean, inside_variance = _pooled(*inside, dim=1)
    members = cells.members[:, None].to(mean.dtype)
    size = storage.shape[1] * storage.shape[2] * storage.shape[3] * storage.shape[0]
    weights = grids[2].sum(1)[:, None].to(mean.dtype)
    return torch.stack(
        [
            *_measures(inside_mean, inside_variance),
            *_measures(grid_mean, grid_variance),
            ((weights * grid_variance).sum() / size).sqrt(),
            (members * (variance + mean.square())).sum().sqrt(),
        ]
    )


class Cells(NamedTuple):
    """The grids of a layer, each split into interior (even numbers) and border (odd)."""

    of: Tensor  # (positions,)
    members: Tensor  # (2 G,)
    averaging: Tensor  # (2 G, positions), rows of empty cells are 0


@lru_cache(maxsize=256)
def _cells(frame: Frame) -> Cells:
    of = 2 * frame.grid + (~frame.interior).long()
    numbers = torch.arange(2 * len(frame.members), device=of.device)[:, None]
    belongs = (of == numbers).double()
    members = belongs.sum(1)
    return Cells(of, members, belongs / members.clamp_min(1)[:, None])


def _moments(taps: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
    """Mean and variance over the members of every cell: (taps, positions, C, O) to (., 2 G, C O)."""
    values = taps.flatten(2)
    averaging = cells.averaging.to(values.dtype)
    mean = averaging @ values
    deviation = mean.index_select(1, cells.of).sub_(values)
    return mean, averaging @ deviation.square_()


def _pooled(mean: Tensor, variance: Tensor, members: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of groups taken together, along `dim`."""
    share = (members / members.sum(-1, keepdim=True))[..., None].to(mean.dtype)
    total = (share * mean).sum(dim, keepdim=True)
    pooled = (share * (variance + (mean - total).square())).sum(dim)
    return total.squeeze(dim), pooled


def _measures(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three measures, averaged over components (and grids).

    A component that is 0 in every neuron has neither signal nor noise: it counts as 0.
    """
    signal = mean.square()
    snr = (signal / variance).nan_to_num_(nan=0.0, posinf=torch.inf)
    inverse = (variance / signal).nan_to_num_(nan=0.0, posinf=torch.inf)
    return snr.mean(), inverse.mean(), snr.sqrt().mean()
