"""Signal-to-noise ratios of weights over time, from run files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arguments import check_run
from analysis.statistics import Array, mean_of_known
from neurosim.recording import RunReader

FLOOR = 2.0**-106
"""Double precision's rounding, squared: below it a variance is 0 and its log means nothing."""


def log_inverse_snr(inverse_snr: ArrayLike) -> Array:
    """-log SNR, floored at log FLOOR (see `is_floored`); NaN where nothing was recorded."""
    with np.errstate(invalid="ignore"):
        return np.log(np.maximum(np.asarray(inverse_snr, float), FLOOR))


def is_floored(inverse_snr: ArrayLike) -> NDArray[np.bool_]:
    """Where `log_inverse_snr` returns its floor instead of a logarithm."""
    return np.asarray(inverse_snr, float) < FLOOR


@dataclass(frozen=True)
class ConvergenceCurves:
    """-log SNR over presentations, for every setting of a study: mean over trials, and a band."""

    study: str
    status: str
    presentations: Array  # (R,)
    mean: Array  # (G, R)
    low: Array  # (G, R), mean minus one standard deviation over trials
    high: Array  # (G, R)
    trials: NDArray[np.int64]  # (G,), trials that were recorded
    floored: NDArray[np.bool_]  # (G,), whether any value was floored
    grid: dict[str, list[Any]]  # every axis of the grid, one value per setting, None if without
    limits: dict[str, Array]  # var / mean^2 in theory, (G,), by name; NaN where there is none

    @property
    def varying(self) -> dict[str, list[Any]]:
        """The axes along which the settings differ."""
        return {k: v for k, v in self.grid.items() if len(set(v) - {None}) > 1}


def convergence_curves(run: RunReader) -> ConvergenceCurves:
    """The curves of a convergence study, also of one that is still being written."""
    check_run(run, "convergence")
    values = run["inverse_snr"]  # (G, trials, R)
    logs = log_inverse_snr(values)
    recorded = ~np.isnan(logs)
    mean = mean_of_known(logs, 1)
    std = np.sqrt(mean_of_known((logs - mean[:, None]) ** 2, 1))
    std = np.where(recorded.sum(1) > 1, std, np.nan)  # one trial does not spread
    names = run.names()
    grid = {name.removeprefix("grid/"): run[name] for name in names if name.startswith("grid/")}
    limits = {name.removeprefix("limit/"): run[name] for name in names if name.startswith("limit/")}
    return ConvergenceCurves(
        study=str(run.config.get("study", "")),
        status=run.status,
        presentations=run["presentation"],
        mean=mean,
        low=mean - std,
        high=mean + std,
        trials=recorded.any(2).sum(1),
        floored=np.asarray(is_floored(values).any((1, 2))),
        grid={name: _with_none(column.tolist()) for name, column in grid.items()},
        limits=limits,
    )


def _with_none(values: list[Any]) -> list[Any]:
    """None for NaN, where an axis means nothing to a setting, such as tau to the instant rule."""
    return [None if isinstance(v, float) and math.isnan(v) else v for v in values]
