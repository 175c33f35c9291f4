"""How many filter banks a layer's positions combine (Elsayed et al. 2020).

With the filters of every position as a row, low-rank local connectivity of rank K is a matrix of
rank K: each row combines the same K banks. A convolution has rank 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.statistics import Array
from analysis.trajectories.weights import parts


@dataclass(frozen=True)
class Spectrum:
    """Singular values of a layer's filters (positions, weights), the largest first.

    NaN if any weight is not finite, and with them all that follows.
    """

    values: Array

    @property
    def effective_rank(self) -> float:
        """exp of the entropy of the normalised singular values (Roy and Vetterli 2007)."""
        share = _shares(self.values)
        return float(np.exp(-(share * np.log(share)).sum())) if len(share) else 0.0

    @property
    def participation_ratio(self) -> float:
        """(sum s^2)^2 / sum s^4: directions that hold the energy."""
        share = _shares(self.values**2)
        return float(1 / (share**2).sum()) if len(share) else 0.0


def spectrum(filters: NDArray[np.floating]) -> Spectrum:
    """The spectrum of filters (positions, weights) from products of the smaller side."""
    rows, columns = filters.shape
    wide = columns > rows
    size, length = (rows, columns) if wide else (columns, rows)
    gram = np.zeros((size, size))
    for part in parts(length, 8 * size):
        block = (filters[:, part] if wide else filters[part].T).astype(np.float64)
        with np.errstate(invalid="ignore"):
            gram += block @ block.T
    if not np.isfinite(gram).all():
        return Spectrum(np.full(size, np.nan))
    squares = np.linalg.eigvalsh(gram)[::-1]
    largest = max(float(squares[0]), 0.0)
    squares[squares < size * np.finfo(float).eps * largest] = 0
    return Spectrum(np.sqrt(np.maximum(squares, 0)))


def _shares(values: Array) -> Array:
    counted = values[~(values <= 0)]
    return counted / counted.sum()
