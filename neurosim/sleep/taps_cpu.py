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

from neurosim.compiled import compiled, run_parts

DTYPES = (torch.float32, torch.float64)


def can_compile(storage: Tensor) -> bool:
    """Whether weights (taps, positions, C, O) are such that these passes can be used."""
    return storage.device.type == "cpu" and storage.dtype in DTYPES and storage.is_contiguous()


def share_means(storage: Tensor, grid: Tensor, members: Tensor) -> None:
    """Give every weight the mean of its grid, in place; grid -1 takes no part."""
    of, sizes = grid.numpy(), members.to(torch.float64).numpy()
    _over_taps(_share_means, storage, of, sizes)
    torch.autograd.graph.increment_version(storage)  # which writing behind torch's back does not


def means(storage: Tensor, grid: Tensor, members: Tensor) -> Tensor:
    """Means of every grid, (taps, grids, C O); grid -1 takes no part."""
    of, sizes = grid.numpy(), members.to(torch.float64).numpy()
    return torch.from_numpy(np.concatenate(_over_taps(_means, storage, of, sizes)))


def sums_of_measures(storage: Tensor, cells: Tensor, members: Tensor) -> Tensor:
    """The eight sums of `statistics._sums`, over all taps."""
    of, sizes = cells.numpy(), members.to(torch.float64).numpy()
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
def _share_means(
    taps: NDArray[np.floating], of: NDArray[np.int64], sizes: NDArray[np.float64]
) -> None:
    """Means of grids, of weights (taps, positions, components)."""
    for tap in range(len(taps)):
        _share_means_of_tap(taps[tap], of, sizes)


@compiled
def _share_means_of_tap(
    values: NDArray[np.floating], of: NDArray[np.int64], sizes: NDArray[np.float64]
) -> None:
    means = np.zeros((len(sizes), values.shape[1]), values.dtype)
    _add_means_of_tap(means, values, of, sizes)
    for p in range(len(values)):
        if of[p] >= 0:
            mean, row = means[of[p]], values[p]
            for f in range(len(row)):
                row[f] = mean[f]


@compiled
def _means(
    taps: NDArray[np.floating], of: NDArray[np.int64], sizes: NDArray[np.float64]
) -> NDArray[np.floating]:
    """Means of grids, (taps, grids, components)."""
    means = np.zeros((len(taps), len(sizes), taps.shape[2]), taps.dtype)
    for tap in range(len(taps)):
        _add_means_of_tap(means[tap], taps[tap], of, sizes)
    return means


@compiled
def _add_means_of_tap(
    means: NDArray[np.floating],
    values: NDArray[np.floating],
    of: NDArray[np.int64],
    sizes: NDArray[np.float64],
) -> None:
    """Means of grids of (positions, components), into zeros; one of no members stays 0."""
    for p in range(len(values)):
        if of[p] >= 0:
            mean, row = means[of[p]], values[p]
            for f in range(len(row)):
                mean[f] += row[f]
    for c in range(len(sizes)):
        mean, size = means[c], values.dtype.type(max(sizes[c], 1.0))
        for f in range(len(mean)):
            mean[f] /= size


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
    _add_means_of_tap(means, values, of, sizes)
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
