"""How equal the filters of a layer's positions are, from its weights.

With the mean and variance over neurons of every component j (an output, an input and a tap):

    snr          mean_j mean_j^2 / var_j          (Eq. 6 of Pogodin et al. 2021)
    inverse_snr  mean_j var_j / mean_j^2          (what Figs. 4 to 6 plot the logarithm of)
    mean_to_std  mean_j |mean_j| / std_j          (what the published network code logs)

over the interior positions, and (grid_...) within each grid, averaged over grids. A component
that is 0 everywhere has neither signal nor noise and counts as 0. Connections that are absent for
a layer's whole life (`neurosim.nn.masked`) are left out: moments are those of the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.statistics import Array
from analysis.trajectories.weights import parts

ROUNDING = 2.0**-90
"""Below this share of all squares a variance is rounding."""


@dataclass(frozen=True)
class Equality:
    """Measures of one layer at one time.

    The first three are over interior positions, NaN where there are none.
    """

    snr: float
    inverse_snr: float
    mean_to_std: float
    grid_snr: float
    grid_inverse_snr: float
    grid_mean_to_std: float
    spread: float  # root mean square deviation from the mean of the grid
    norm: float  # of all weights
    convolution_distance: float  # to the nearest weights that are equal everywhere, over the norm
    explained_by_grids: float  # share of the variance over positions; NaN where there is none


def equality(
    filters: NDArray[np.floating],
    grid: NDArray[np.int64],
    interior: NDArray[np.bool_],
    present: NDArray[np.bool_] | None = None,
) -> Equality:
    """All measures of filters (positions, weights), some components at a time.

    `grid` is the number of every position's grid, `interior` whether its receptive field lies
    inside the image, `present` (positions, weights) which connections there are (default: all).
    """
    count, width = filters.shape
    numbers, grid = np.unique(grid, return_inverse=True)
    belongs = (grid == np.arange(len(numbers))[:, None]).astype(float)  # (grids, positions)
    everything, everywhere = np.ones((1, count)), np.zeros(count, np.int64)
    sums, within, around, squares, connections = np.zeros(6), 0.0, 0.0, 0.0, 0.0
    for part in parts(width, 8 * count):
        values = filters[:, part].astype(np.float64)
        there = None if present is None else present[:, part].astype(np.float64)
        grids = _moments(values, there, belongs, grid)
        whole = _moments(values, there, everything, everywhere)
        inside = _moments(values, there, interior[None].astype(float), everywhere)
        sums[:3] += _measures(inside)
        sums[3:] += _measures(grids) / len(numbers)
        within += (grids.count * grids.variance).sum()
        around += (whole.count * whole.variance).sum()
        squares += (values**2).sum()
        connections += np.broadcast_to(whole.count, (1, values.shape[1])).sum()
    if not interior.any():  # nothing is known of none
        sums[:3] = math.nan
    varies = around > ROUNDING * squares
    return Equality(
        *(sums / width).tolist(),
        spread=math.sqrt(within / max(connections, 1)),
        norm=math.sqrt(squares),
        convolution_distance=math.sqrt(around / squares) if squares else 0.0,
        explained_by_grids=1 - within / around if varies else math.nan,
    )


class _Moments(NamedTuple):
    """Of every component, over the neurons of every group."""

    mean: Array  # (groups, components)
    variance: Array  # the same
    count: Array  # of neurons that have the component; broadcasts to the same


def _moments(
    values: Array, present: Array | None, belongs: Array, of: NDArray[np.int64]
) -> _Moments:
    """Moments over groups; `of` is the group from whose mean a position's deviation counts."""
    count = belongs.sum(1, keepdims=True) if present is None else belongs @ present
    divisor = np.maximum(count, 1)
    mean = belongs @ values / divisor
    deviation = (values - mean[of]) ** 2
    if present is not None:
        deviation *= present
    return _Moments(mean, belongs @ deviation / divisor, count)


def _measures(moments: _Moments) -> Array:
    """Sums of the three measures over components (and groups)."""
    signal, variance = moments.mean**2, moments.variance
    nothing = (signal == 0) & (variance == 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = np.where(nothing, 0, signal / variance)
        inverse = np.where(nothing, 0, variance / signal)
    return np.array([snr.sum(), inverse.sum(), np.sqrt(snr).sum()])
