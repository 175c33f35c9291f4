"""How equal the weights are: one definition each, for every solver.

Three signal-to-noise ratios appear in the paper and its code; the names keep them apart.
`snr` is Eq. 6, `inverse_snr` is what the published figures plot, and the networks' code logs
a third one, mean(|mean| / std) over all positions of a layer.
"""

from __future__ import annotations

import numpy as np

from neurosim.dynamics.arrays import Array


def inverse_snr(mean: Array, variance: Array) -> Array:
    """mean_j(var_j / mean_j^2) over the D weights (last axis), as plotted in Figs. 4 and 5."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (variance / mean**2).mean(-1)


def snr(mean: Array, variance: Array) -> Array:
    """mean_j(mean_j^2 / var_j) over the D weights (last axis), Eq. 6; inf once weights agree."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (mean**2 / variance).mean(-1)


def alignment(mean: Array, start: Array) -> Array:
    """Cosine of the angle between the mean weight and its start (last axis is D)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        norms = np.linalg.norm(mean, axis=-1) * np.linalg.norm(start, axis=-1)
        return (mean @ start) / norms
