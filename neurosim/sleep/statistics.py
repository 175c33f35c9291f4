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

from collections.abc import Iterable, Sequence
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
    return statistics_of([layer])[0]


def statistics_of(layers: Iterable[LocallyConnected]) -> list[LayerStatistics]:
    """All measures of every layer; one wait for the device."""
    chosen = [*layers]
    return [LayerStatistics(*row) for row in measure(chosen).tolist()] if chosen else []


def lowest_snr(layers: Iterable[LocallyConnected]) -> Tensor:
    """The lowest SNR of all layers that have an interior; infinite if none has."""
    found = measure([*layers])[:, SNR]
    return found.masked_fill(found.isnan(), torch.inf).min()


@torch.no_grad()
def measure(layers: Sequence[LocallyConnected]) -> Tensor:
    """The measures of some layers, one at least: a row of each, in double, on their device.

    Columns are in the order of `LayerStatistics`. Positions are split into cells, each grid's
    interior and its border: all measures follow from the cells' means and variances by the law of
    total variance. Layers that have as many cells go through it together: on a GPU it takes longer
    to start all these operations than to compute them.
    """
    sums: dict[int, Tensor] = {}
    divisors: list[Tensor] = []
    alike: dict[tuple, dict[int, Moments]] = {}
    for number, layer in enumerate(layers):
        storage = to_storage(layer.weight.detach(), layer.geometry)
        storage = storage.to(torch.promote_types(storage.dtype, torch.float32))
        cells, present = _cells(frame_of(layer), storage.dtype), present_in(layer)
        divisors.append(_divisors(cells, storage.shape, present))
        if present is None and taps_cpu.can_compile(storage):
            sums[number] = taps_cpu.sums_of_measures(storage, cells.of, cells.members)
        else:
            kind = (len(storage), len(cells.members), storage.dtype)
            alike.setdefault(kind, {})[number] = _moments(storage, present, cells)
    for moments in alike.values():
        sums |= zip(moments, _sums([*moments.values()]), strict=True)
    rows = torch.stack([sums[number].double() for number in range(len(layers))])
    means = rows / torch.stack(divisors)
    return torch.cat([means[:, :6], means[:, 6:].sqrt()], 1)


@dataclass(frozen=True, eq=False)
class Cells:
    """The grids of a layer, each split into interior (even numbers) and border (odd)."""

    of: Tensor  # (positions,)
    belongs: Tensor  # (2 G, positions), whether each position is in each cell
    members: Tensor  # (2 G,), in each cell, in double
    count: Tensor  # (1, 2 G, 1), the same as weights are computed with
    average: Tensor  # (2 G, positions), rows that average over a cell
    interior: bool  # whether there is any


@lru_cache(maxsize=256)
def _cells(frame: Frame, dtype: torch.dtype) -> Cells:
    of = 2 * frame.grid + (~frame.interior).long()
    belongs = of == torch.arange(2 * len(frame.members), device=of.device)[:, None]
    members = belongs.sum(1).double()
    average = (belongs / members.clamp_min(1)[:, None]).to(dtype)
    count = members.to(dtype)[None, :, None]
    return Cells(of, belongs, members, count, average, bool(frame.interior.any()))


def _divisors(cells: Cells, shape: torch.Size, present: Tensor | None) -> Tensor:
    """What turns `_sums` of weights of this shape into means; NaN where nothing can be told."""
    known = _known_divisors(cells, shape)
    if present is None:
        return known
    return torch.cat([known[:6], present.sum().double()[None], known[7:]])


@lru_cache(maxsize=256)
def _known_divisors(cells: Cells, shape: torch.Size) -> Tensor:
    components, grids = shape[0] * shape[2] * shape[3], len(cells.members) // 2
    interior = components if cells.interior else torch.nan
    values = [interior] * 3 + [components * grids] * 3 + [shape.numel(), 1]
    return cells.members.new_tensor(values)


class Moments(NamedTuple):
    """Of every component (C O) of some taps, over the neurons of every cell or grid."""

    mean: Tensor  # (taps, cells, C O)
    variance: Tensor  # the same
    count: Tensor  # of neurons that have this component; broadcasts to the same


def _moments(taps: Tensor, present: Tensor | None, cells: Cells) -> Moments:
    """Moments over the members of every cell, from weights (taps, positions, C, O)."""
    values = taps.flatten(2)
    if present is None:
        mean = cells.average @ values
        deviation = mean.index_select(1, cells.of).sub_(values)
        return Moments(mean, cells.average @ deviation.square_(), cells.count)
    has, belongs = present.flatten(2).to(values.dtype), cells.belongs.to(values.dtype)
    count = belongs @ has
    divisor = count.clamp_min(1)
    mean = (belongs @ values).div_(divisor)
    deviation = mean.index_select(1, cells.of).sub_(values).mul_(has)
    return Moments(mean, (belongs @ deviation.square_()).div_(divisor), count)


def _sums(layers: Sequence[Moments]) -> list[Tensor]:
    """Sums over components, of every layer: three measures of the interior, three of all grids.

    And two of squares: of deviations from the grid's mean, and of the weights.
    """
    cells = layers[0]
    if len(layers) > 1:
        complete = [m._replace(count=m.count.expand_as(m.mean)) for m in layers]
        cells = Moments(*(torch.cat(parts, 2) for parts in zip(*complete, strict=True)))
    interior = _pooled(Moments(*(part[:, 0::2] for part in cells)), dim=1)
    grids = _pooled(Moments(*(part.unflatten(1, (-1, 2)) for part in cells)), dim=2)
    deviations = (grids.count * grids.variance).sum(1)
    squares = deviations + (grids.count * grids.mean.square()).sum(1)
    of_grids = (measured.sum(1) for measured in _measures(grids))
    found = torch.stack([*_measures(interior), *of_grids, deviations, squares])
    widths = [m.mean.shape[2] for m in layers]
    return [part.sum((1, 2)) for part in found.split(widths, 2)]


def _pooled(cells: Moments, dim: int) -> Moments:
    """Moments of several cells taken together, along `dim`."""
    count = cells.count.sum(dim, keepdim=True)
    share = cells.count / count.clamp_min(1)
    mean = (share * cells.mean).sum(dim, keepdim=True)
    variance = (share * (cells.variance + (cells.mean - mean).square_())).sum(dim)
    return Moments(mean.squeeze(dim), variance, count.squeeze(dim))


def _measures(moments: Moments) -> tuple[Tensor, Tensor, Tensor]:
    """The three measures of every component.

    One that is 0 in every neuron has neither signal nor noise: it counts as 0.
    """
    signal, noise = moments.mean.square(), moments.variance
    nothing = (signal == 0) & (noise == 0)
    snr = (signal / noise).masked_fill_(nothing, 0)
    inverse = (noise / signal).masked_fill_(nothing, 0)
    return snr, inverse, snr.sqrt()
