"""What sleeps did to the layers of a network, from what a training run recorded around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.statistics import Array
from analysis.training.curves import TrainingCurves
from neurosim.errors import require_choice


@dataclass(frozen=True)
class SleepDecay:
    """What every sleep did to the layers, and what happened in between.

    Only sleeps with recorded statistics count. Ratios are of the spread, the root mean square
    deviation from the mean of the grid.
    """

    steps: NDArray[np.int64]  # (Z,)
    layers: tuple[str, ...]
    decay: Array  # (Z, layers), spread after a sleep / before it
    regrowth: Array  # (Z, layers), spread before a sleep / after the one before; NaN at the first
    # and where nothing was recorded around the one before
    log_snr_gain: Array  # (Z, layers), what the sleep added to -log inverse_snr


def sleep_decay(curves: TrainingCurves) -> SleepDecay:
    """Sleep by sleep, how much of the differences within grids was left."""
    if not curves.layers:
        nothing = np.empty((0, 0))
        return SleepDecay(np.empty(0, np.int64), (), nothing, nothing, nothing)
    spread, inverse = (curves.sleep_statistics[name] for name in ("spread", "inverse_snr"))
    known = ~np.isnan(spread).any((1, 2))
    spread, inverse = spread[known], inverse[known]  # (Z, before and after, layers)
    regrowth = np.full_like(spread[:, 0], np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        regrowth[1:] = spread[1:, 0] / spread[:-1, 1]
        regrowth[1:][np.diff(np.flatnonzero(known)) != 1] = np.nan
        decay = spread[:, 1] / spread[:, 0]
        gain = np.log(inverse[:, 0]) - np.log(inverse[:, 1])
    steps = curves.sleeps[known].astype(np.int64)
    return SleepDecay(steps, curves.layers, decay, regrowth, gain)


def recorded_series(curves: TrainingCurves, layer: str, measure: str) -> tuple[Array, Array]:
    """Steps and values of a measure as recorded during training, with what sleeps left behind.

    Statistics of a step precede its sleep, whose result therefore comes half a step later.
    """
    require_choice("layer", layer, curves.layers)
    require_choice("measure", measure, curves.statistics)
    index = curves.layers.index(layer)
    after = curves.sleep_statistics[measure][:, 1, index]
    slept = ~np.isnan(after)
    steps = np.concatenate([curves.steps, curves.sleeps[slept] + 0.5])
    values = np.concatenate([curves.statistics[measure][:, index], after[slept]])
    order = np.argsort(steps, kind="stable")
    return steps[order], values[order]
