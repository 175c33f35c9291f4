"""How equal a layer's filters are: signal-to-noise ratios, spread and norm.

With the mean and variance over neurons of every component j (a tap, an input and an output
channel), three measures of the same thing, which are not functions of each other:

    snr          mean_j mean_j^2 / var_j          (Eq. 6)
    inverse_snr  mean_j var_j / mean_j^2          (what Figs. 4 to 6 plot the logarithm of)
    mean_to_std  mean_j |mean_j| / std_j          (what the published network code logs)

each over the interior positions of the layer (NaN where it has none, as 3x3 filters on a 2x2 map),
and over each grid, averaged over grids. Within a grid variances are 0 to rounding after an instant
share, and the first and last all but infinite. Absent connections (`neurosim.nn.masked`) do not
count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from neurosim.nn.local import LocallyConnected
from neurosim.nn.ops.local import to_storage
from neurosim.sleep import taps_cpu
from neurosim.sleep.frame import Frame, frame_of
from neurosim.sleep.layers import present_in


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


SNR = LayerStatistics.names().index("snr")


def layer_statistics(layer: LocallyConnected) -> LayerStatistics:
    """All measures of a layer; one wait for the device."""
    return LayerStatistics(*measure(layer).tolist())


def lowest_snr(layers: Iterable[LocallyConnected]) -> Tensor:
    """The lowest SNR of all layers that have an interior; infinite if none has."""
    found = torch.stack([measure(layer)[SNR] for layer in layers])
    return found.masked_fill(found.isnan(), torch.inf).min()


@torch.no_grad()
def measure(layer: LocallyConnected) -> Tensor:
    """The measures as a tensor on the layer's device, in the order of `LayerStatistics`.

    Positions are split into cells, each grid's interior and its border: all measures follow from
    the cells' means and variances by the law of total variance.
    """
    storage = to_storage(layer.weight.detach(), layer.geometry)
    storage = storage.to(torch.promote_types(storage.dtype, torch.float32))
    cells, present = _cells(frame_of(layer)), present_in(layer)
    if present is None and taps_cpu.can_compile(storage):
        sums = taps_cpu.sums_of_measures(storage, cells.of, cells.belongs.sum(1))
    else:
        sums = _sums(_moments(storage, present, cells))
    components = storage.shape[0] * storage.shape[2] * storage.shape[3]
    grids = cells.belongs.shape[0] // 2
    connections = storage.numel() if present is None else present.sum()
    divisors = sums.new_tensor([components] * 3 + [components * grids] * 3 + [connections, 1])
    means = sums / divisors
    if not cells.interior:
        means[:3] = torch.nan
    return torch.cat([means[:6], means[6:].sqrt()]).to(storage.dtype)


class Cells(NamedTuple):
    """The grids of a layer, each split into interior (even numbers) and border (odd)."""

    of: Tensor  # (positions,)
    belongs: Tensor  # (2 G, positions), whether each position is in each cell
    interior: bool  # whether there is any


@lru_cache(maxsize=256)
def _cells(frame: Frame) -> Cells:
    of = 2 * frame.grid + (~frame.interior).long()
    numbers = torch.arange(2 * len(frame.members), device=of.device)[:, None]
    return Cells(of, of == numbers, bool(frame.interior.any()))


class Moments(NamedTuple):
    """Of every component (C O) of some taps, over the neurons of every cell or grid."""

    mean: Tensor  # (taps, cells, C O)
    variance: Tensor  # the same
    count: Tensor  # of neurons that have this component; broadcasts to the same


def _moments(taps: Tensor, present: Tensor | None, cells: Cells) -> Moments:
    """Moments over the members of every cell, from weights (taps, positions, C, O)."""
    values = taps.flatten(2)
    belongs = cells.belongs.to(values.dtype)
    if present is None:
        count = belongs.sum(1)[None, :, None]
    else:
        count = belongs @ present.flatten(2).to(values.dtype)
    divisor = count.clamp_min(1)
    mean = (belongs @ values).div_(divisor)
    deviation = mean.index_select(1, cells.of).sub_(values)
    if present is not None:
        deviation *= present.flatten(2)
    return Moments(mean, (belongs @ deviation.square_()).div_(divisor), count)


def _sums(cells: Moments) -> Tensor:
    """Sums over components: three measures of the interior, three of all grids, and squares.

    The last two are those of deviations from the grid's mean, and of the weights.
    """
    interior = _pooled(Moments(*(part[:, 0::2] for part in cells)), dim=1)
    grids = _pooled(Moments(*(part.unflatten(1, (-1, 2)) for part in cells)), dim=2)
    deviations = (grids.count * grids.variance).sum()
    means = (grids.count * grids.mean.square()).sum()
    return torch.stack([*_measures(interior), *_measures(grids), deviations, deviations + means])


def _pooled(cells: Moments, dim: int) -> Moments:
    """Moments of several cells taken together, along `dim`."""
    count = cells.count.sum(dim, keepdim=True)
    share = cells.count / count.clamp_min(1)
    mean = (share * cells.mean).sum(dim, keepdim=True)
    variance = (share * (cells.variance + (cells.mean - mean).square_())).sum(dim)
    return Moments(mean.squeeze(dim), variance, count.squeeze(dim))


def _measures(moments: Moments) -> tuple[Tensor, Tensor, Tensor]:
    """The three measures, summed over components (and grids).

    A component that is 0 in every neuron has neither signal nor noise: it counts as 0.
    """
    signal, noise = moments.mean.square(), moments.variance
    nothing = (signal == 0) & (noise == 0)
    snr = (signal / noise).masked_fill_(nothing, 0)
    inverse = (noise / signal).masked_fill_(nothing, 0)
    return snr.sum(), inverse.sum(), snr.sqrt().sum()
