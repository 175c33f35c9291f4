"""Compiled passes over weights on a CPU, tap by tap: each is read from memory once.

Written out in torch, as they stand elsewhere for every device, these passes take two to three
times as long, most of it to read and write intermediate results. Taps are shared out over as many
threads as torch uses; results do not depend on how many these are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurosim.compiled import INTERPRETED, compiled
from neurosim.compiled.threads import run_parts
from neurosim.compiled.tiles import Places, Values

DTYPES = (torch.float32, torch.float64)


def can_compile(storage: Tensor) -> bool:
    """Whether weights (taps, positions, C, O) are such that these passes can be used."""
    known = storage.device.type == "cpu" and storage.dtype in DTYPES
    return known and storage.is_contiguous() and not INTERPRETED


def share_means(storage: Tensor, order: Tensor, bounds: Tensor) -> None:
    """Give every weight the mean of its grid, in place; see `Frame.in_order`."""
    _over_means(storage, order, bounds, share=True)
    torch.autograd.graph.increment_version(storage)  # which writing behind torch's back does not


def means(storage: Tensor, order: Tensor, bounds: Tensor) -> Tensor:
    """Means of every grid, (taps, grids, C O); see `Frame.in_order`."""
    return _over_means(storage, order, bounds, share=False)


def _over_means(storage: Tensor, order: Tensor, bounds: Tensor, *, share: bool) -> Tensor:
    taps, _, channels, outputs = storage.shape
    found = storage.new_zeros(taps, len(bounds) - 1, channels * outputs)
    values, made, members, ends = (t.numpy() for t in (storage.flatten(2), found, order, bounds))

    def part(tap: int) -> None:
        _means_of_tap(values[tap], made[tap], members, ends, share)

    run_parts(part, taps)
    return found


def sums_of_measures(storage: Tensor, cells: Tensor, members: Tensor) -> Tensor:
    """The eight sums of `statistics._sums`, over all taps; sizes of cells are in double."""
    of, sizes = cells.numpy(), members.numpy()
    found = _over_taps(_sums_of_measures, storage, of, sizes)
    return torch.from_numpy(np.concatenate(found).sum(0))


def _over_taps(function: Callable[..., Any], storage: Tensor, *constants: Any) -> list[Any]:
    """Results of `function(taps, *constants)` for parts of the taps, in their order."""
    values = storage.flatten(2).numpy()
    parts = np.array_split(values, min(len(values), torch.get_num_threads()))
    return run_parts(lambda number: function(parts[number], *constants), len(parts))


# Rows are taken out of arrays before the loop over them, and means made where they are used: only
# then does the compiler see that nothing else changes, and uses vector instructions.


@compiled
def _means_of_tap(
    values: Values, means: Values, order: Places, bounds: Places, share: bool
) -> None:
    """Means of (positions, components) added up in zeros (grids, components), and given back.

    Grid by grid, so that its weights are still in the cache when they are written.
    """
    for g in range(len(means)):
        mean, start, stop = means[g], bounds[g], bounds[g + 1]
        for i in range(start, stop):
            row = values[order[i]]
            for f in range(len(row)):
                mean[f] += row[f]
        size = means.dtype.type(max(stop - start, 1))
        for f in range(len(mean)):
            mean[f] /= size
        if share:
            for i in range(start, stop):
                row = values[order[i]]
                for f in range(len(row)):
                    row[f] = mean[f]


@compiled
def _sums_of_measures(
    taps: NDArray[np.floating], of: NDArray[np.int64], sizes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Eight sums over the components of every tap, (taps, 8)."""
    found = np.zeros((len(taps), 8))
    for tap in range(len(taps)):
        mean, variance = _moments_of_tap(taps[tap], of, sizes)
        _add_measures_of_cells(found[tap], mean, variance, sizes)
    return found


@compiled
def _moments_of_tap(
    values: NDArray[np.floating], of: NDArray[np.int64], sizes: NDArray[np.float64]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    positions, components = values.shape
    means = np.zeros((len(sizes), components), values.dtype)
    variances = np.zeros((len(sizes), components), values.dtype)
    for p in range(positions):
        mean, row = means[of[p]], values[p]
        for f in range(components):
            mean[f] += row[f]
    for c in range(len(sizes)):
        mean, size = means[c], values.dtype.type(max(sizes[c], 1.0))
        for f in range(components):
            mean[f] /= size
    for p in range(positions):
        mean, variance, row = means[of[p]], variances[of[p]], values[p]
        for f in range(components):
            difference = row[f] - mean[f]
            variance[f] += difference * difference
    for c in range(len(sizes)):
        variance, size = variances[c], values.dtype.type(max(sizes[c], 1.0))
        for f in range(components):
            variance[f] /= size
    return means, variances


@compiled
def _add_measures_of_cells(
    result: NDArray[np.float64],
    mean: NDArray[np.floating],
    variance: NDArray[np.floating],
    sizes: NDArray[np.float64],
) -> None:
    """Those of the interior (even cells), of all grids (pairs of cells), and two of squares."""
    cells, components = mean.shape
    total, spread = np.zeros(components), np.zeros(components)
    inside = max(sizes[0::2].sum(), 1.0)
    for c in range(0, cells, 2):
        total += sizes[c] / inside * mean[c]
    for c in range(0, cells, 2):
        spread += sizes[c] / inside * (variance[c] + (mean[c] - total) ** 2)
    _add_measures(result, 0, total, spread)
    for c in range(0, cells, 2):
        size = max(sizes[c] + sizes[c + 1], 1.0)
        a, b = sizes[c] / size, sizes[c + 1] / size
        total = a * mean[c] + b * mean[c + 1]
        spread = a * variance[c] + b * variance[c + 1] + a * b * (mean[c] - mean[c + 1]) ** 2
        _add_measures(result, 3, total, spread)
        result[6] += size * spread.sum()
        result[7] += size * (spread + total**2).sum()


@compiled
def _add_measures(
    result: NDArray[np.float64],
    first: int,
    mean: NDArray[np.float64],
    variance: NDArray[np.float64],
) -> None:
    """Add the three measures; a component that is 0 in every neuron counts as 0."""
    for f in range(len(mean)):
        signal, noise = mean[f] ** 2, variance[f]
        if signal != 0 or noise != 0:
            ratio = signal / noise
            result[first] += ratio
            result[first + 1] += noise / signal
            result[first + 2] += np.sqrt(ratio)
