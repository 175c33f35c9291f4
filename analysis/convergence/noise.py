"""What input noise does to convergence: the curves behind Theorem 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.statistics import Array
from neurosim.recording import RunReader


@dataclass(frozen=True)
class NoiseCurves:
    """Errors over k, means over populations, for every noise level."""

    sigma: Array  # (S,)
    presentations: Array  # (R,)
    error: Array  # (S, R), |W^k - W*|^2
    residual: Array  # (S, R), |W^k - W_sigma|^2
    bound: Array  # (S, R)
    floor: Array  # (S,), |W_sigma - W*|^2
    slope: Array  # (S,), of log residual against log(k0 + k)

    @property
    def floor_exponents(self) -> Array:
        """d log floor / d log sigma between neighbouring positive sigmas."""
        positive = self.sigma > 0
        return np.diff(np.log(self.floor[positive])) / np.diff(np.log(self.sigma[positive]))


def fit_slope(x: Array, y: Array) -> float:
    """The slope of log y against log x."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def noise_curves(run: RunReader, offset: float) -> NoiseCurves:
    """Average over populations and fit the decay over the last decade of k."""
    k = run["presentation"].astype(float)
    late = k >= k[-1] / 10
    residual = np.nanmean(run["residual"], 1)
    return NoiseCurves(
        sigma=run["sigma"],
        presentations=k,
        error=np.nanmean(run["error"], 1),
        residual=residual,
        bound=np.nanmean(run["bound"], 1),
        floor=np.nanmean(run["floor"], 1),
        slope=np.array([fit_slope(offset + k[late], row[late]) for row in residual]),
    )
