"""The sums of `statistics._sums` on a CPU, compiled: every tap is read once and stays in the cache.

Written out in torch, as it stands there for every device, they take up to twice as long, most of
it to read and write intermediate results. Numbers do not depend on threads.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurosim.compiled import compiled


def sums(storage: Tensor, of: Tensor, members: Tensor) -> Tensor:
    """Sums over all taps of weights (taps, positions, C, O); cells `of` positions, their sizes."""
    values = storage.flatten(2).numpy()
    cells, sizes = of.numpy(), members.to(torch.float64).numpy()
    found = _pool().map(lambda tap: _tap_sums(tap, cells, sizes), values)
    return torch.from_numpy(np.stack(list(found)).sum(0))


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="sleep")


@compiled
def _tap_sums(
    values: NDArray[np.floating], of: NDArray[np.int64], sizes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Eight sums over the components of one tap, weights (positions, components)."""
    positions, components = values.shape
    cells = len(sizes)
    mean = np.zeros((cells, components), values.dtype)
    variance = np.zeros((cells, components), values.dtype)
    for p in range(positions):
        for f in range(components):
            mean[of[p], f] += values[p, f]
    for c in range(cells):
        mean[c] /= max(sizes[c], 1.0)
    for p in range(positions):
        for f in range(components):
            variance[of[p], f] += (values[p, f] - mean[of[p], f]) ** 2
    for c in range(cells):
        variance[c] /= max(sizes[c], 1.0)

    result = np.zeros(8)
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
    return result


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
